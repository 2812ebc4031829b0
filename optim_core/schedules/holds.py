"""Shapes that stay at the peak, for a while or for good. See ``shapes`` for arguments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.schedules.decays import half_cosine

Parameters = Mapping[str, float]


def constant(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1."""
    return torch.ones_like(t)


def wsd(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1, then 1 − x or 1 − √x with x = (t − (1 − d)T)/(dT), d = decay_fraction (arXiv 2404.06395, 2405.18392)."""
    length = p["decay_fraction"] * total
    x = ((t - (total - length)) / length).clamp(0, 1)
    return 1 - (torch.sqrt(x) if p["sqrt_shape"] else x)


def hold_cosine(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1 for t ≤ cT, then e + (1 − e)(1 + cos(πx))/2 with x = (t/T − c)/(1 − c) (TaskSet, arXiv 2002.11887)."""
    hold = p["hold_fraction"]
    # With hold 1 this is −∞, for t < T, and the clamp makes it the 0 that it should be.
    x = ((t / total - hold) / (1 - hold)).clamp(0, 1)
    return half_cosine(x, 1.0, p["end_factor"])
