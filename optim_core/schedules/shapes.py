"""Learning-rate multipliers in closed form: f(t) for t = 0 … T−1, the step about to be taken. No momentum is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.schedules import complete_schedule

Parameters = Mapping[str, float]


def constant(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1."""
    return torch.ones_like(t)


def cosine(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = e + (1 − e)(1 + cos(πt/T))/2 (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    e = p["end_factor"]
    return e + (1 - e) * (1 + torch.cos(torch.pi * t / total)) / 2


def linear(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = 1 − (1 − e)·t/T."""
    return 1 - (1 - p["end_factor"]) * t / total


def step(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = γ^⌊t/S⌋ with S = max(1, round(step_fraction·T))."""
    length = max(1, round(p["step_fraction"] * total))
    return p["gamma"] ** torch.floor(t / length)


def one_cycle(t: Tensor, total: int, p: Parameters) -> Tensor:
    """Cosine up from 1/div to 1 over pct_start·T − 1 steps, cosine down to 1/(div·final_div) (arXiv 1708.07120).

    Equals torch's OneCycleLR with cycle_momentum=False, relative to max_lr. A rise of less than a step is skipped; one
    of exactly one step, where torch divides by zero, starts at the peak.
    """
    start, end = 1 / p["div_factor"], 1 / (p["div_factor"] * p["final_div_factor"])
    peak, last = p["pct_start"] * total - 1, float(total - 1)
    up = (t / peak).clamp(max=1) if peak > 0 else torch.ones_like(t)
    # pct_start is at most 0.9, so the way down always has a length.
    down = ((t - peak) / (last - peak)).clamp(0, 1)
    rising = 1 + (start - 1) * (1 + torch.cos(torch.pi * up)) / 2
    falling = end + (1 - end) * (1 + torch.cos(torch.pi * down)) / 2
    return torch.where(t <= peak, rising, falling)


SHAPES: dict[str, Callable[[Tensor, int, Parameters], Tensor]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "one_cycle": one_cycle,
}


def multipliers(schedule: Mapping[str, str | float], total_steps: int) -> Tensor:
    """(T,) float64 multipliers of the learning rate. Raises SpecError for an unknown schedule or parameter, or T < 1.

    Warm-up multiplies the first w = round(warmup_fraction·T) values by (t + 1)/w, in front of any shape.
    """
    if total_steps < 1:
        raise SpecError("a schedule needs at least one step", code="number_out_of_range")
    complete = complete_schedule(schedule)
    p = {key: float(value) for key, value in complete.items() if key != "name"}
    t = torch.arange(total_steps, dtype=torch.float64)
    values = SHAPES[str(complete["name"])](t, total_steps, p)
    warmup = round(p.get("warmup_fraction", 0.0) * total_steps)
    return values * ((t + 1) / warmup).clamp(max=1) if warmup > 0 else values


def stack_multipliers(schedules: Sequence[Mapping[str, str | float]], total_steps: int) -> Tensor:
    """(T, K) float64: column k is trial k's schedule."""
    return torch.stack([multipliers(schedule, total_steps) for schedule in schedules], dim=1)
