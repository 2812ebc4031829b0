"""Shapes that only fall (inverse_sqrt after its rise). See ``shapes`` for arguments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Parameters = Mapping[str, float]


def half_cosine(x: Tensor, start: float, end: float) -> Tensor:
    """From ``start`` at x = 0 to ``end`` at x = 1 along half a cosine."""
    return end + (start - end) * (1 + torch.cos(torch.pi * x)) / 2


def cosine(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = e + (1 − e)(1 + cos(πt/T))/2 (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    e = p["end_factor"]
    return e + (1 - e) * (1 + torch.cos(torch.pi * t / total)) / 2


def linear(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1 − (1 − e)·t/T."""
    return 1 - (1 - p["end_factor"]) * t / total


def polynomial(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = e + (1 − e)(1 − t/T)^q (arXiv 1606.00915); with e = 0 torch's PolynomialLR."""
    return p["end_factor"] + (1 - p["end_factor"]) * (1 - t / total) ** p["power"]


def step(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = γ^⌊t/S⌋ with S = max(1, round(step_fraction·T))."""
    length = max(1, round(p["step_fraction"] * total))
    return p["gamma"] ** torch.floor(t / length)


def multistep(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = γ^(number of milestones ≤ t), milestones max(1, round(fraction·T)) in any order; equal ones count twice."""
    passed = [t >= max(1, round(p[name] * total)) for name in ("first_milestone", "second_milestone")]
    return p["gamma"] ** torch.stack(passed).sum(0, dtype=t.dtype)


def exponential(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = e^(t/T): torch's ExponentialLR with γ = e^(1/T)."""
    return p["end_factor"] ** (t / total)


def inverse_sqrt(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = min((t + 1)/w, √(w/(t + 1))), w = max(1, round(rise_fraction·T)) (arXiv 1706.03762, scaled to a peak of 1)."""
    rise = max(1, round(p["rise_fraction"] * total))
    return torch.minimum((t + 1) / rise, torch.sqrt(rise / (t + 1)))


def inverse_time(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1/(1 + decay·t/T): Adagrad's lr_decay k of torch with k = decay/T."""
    return 1 / (1 + p["decay"] * t / total)
