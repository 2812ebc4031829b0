"""Shapes that rise, once or again and again. See ``shapes`` for arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.schedules.decays import half_cosine

Parameters = Mapping[str, float]

# A step this close to the end of a cycle (in cycles) opens the next: 700 · (1/7) must restart at step 100, rounding or not.
_ROUNDING = 1e-9


def sgdr(t: Tensor, total: int, p: Parameters) -> Tensor:
    """Half a cosine from 1 to e over cycles of length T_0, T_0·m, T_0·m² …, T_0 = max(1, first_cycle·T).

    Loshchilov & Hutter 2017, arXiv 1608.03983. Equals torch's CosineAnnealingWarmRestarts where T_0 is whole; elsewhere
    the lengths stay fractions, so that a last cycle that ends with the run does so at every T.
    """
    first, factor = max(1.0, p["first_cycle"] * total), p["cycle_factor"]
    if factor == 1:
        start, length = first * torch.floor(t / first + _ROUNDING), torch.full_like(t, first)
    else:
        cycle = torch.floor(torch.log(1 + (factor - 1) * t / first) / math.log(factor) + _ROUNDING)
        start, length = first * (factor**cycle - 1) / (factor - 1), first * factor**cycle
    return half_cosine(((t - start) / length).clamp(min=0), 1.0, p["end_factor"])


def _triangle(t: Tensor, total: int, p: Parameters) -> tuple[Tensor, Tensor]:
    """Height in [0, 1] and the number of cycles done. A leg is max(1, rise_fraction·T) steps; torch's own arithmetic."""
    length = 2 * max(1.0, p["rise_fraction"] * total)
    cycle = torch.floor(1 + t / length)
    x = 1 + t / length - cycle
    return torch.where(x <= 0.5, 2 * x, 2 * (1 - x)), cycle - 1


def triangular(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = ℓ + (1 − ℓ)·s (Smith 2017, arXiv 1506.01186; torch's CyclicLR without its momentum)."""
    height, _ = _triangle(t, total, p)
    return p["low_factor"] + (1 - p["low_factor"]) * height


def triangular2(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = ℓ + (1 − ℓ)·s·2^−(cycles done) (arXiv 1506.01186)."""
    height, done = _triangle(t, total, p)
    return p["low_factor"] + (1 - p["low_factor"]) * height / 2**done


def exp_range(t: Tensor, total: int, p: Parameters) -> Tensor:
    """f = ℓ + (1 − ℓ)·s·d^(t/T) (arXiv 1506.01186); torch's gamma is d^(1/T)."""
    height, _ = _triangle(t, total, p)
    return p["low_factor"] + (1 - p["low_factor"]) * height * p["decay_factor"] ** (t / total)


def one_cycle(t: Tensor, total: int, p: Parameters) -> Tensor:
    """Cosine up from 1/div to 1 over pct_start·T − 1 steps, cosine down to 1/(div·final_div) (arXiv 1708.07120).

    With three phases it comes down to 1/div over as many steps as it rose, and to the end over the rest. Equals torch's
    OneCycleLR with cycle_momentum=False, relative to max_lr. A rise of less than a step is skipped; one of exactly one
    step, where torch divides by zero, starts at the peak.
    """
    base = 1 / p["div_factor"]
    end = base / p["final_div_factor"]
    peak, last = p["pct_start"] * total - 1, float(total - 1)
    rise = _leg(t, 0.0, peak, base, 1.0)
    if p["three_phase"]:
        fall = torch.where(t <= 2 * peak, _leg(t, peak, 2 * peak, 1.0, base), _leg(t, 2 * peak, last, base, end))
    else:
        fall = _leg(t, peak, last, 1.0, end)
    return torch.where(t <= peak, rise, fall)


def _leg(t: Tensor, first: float, last: float, start: float, end: float) -> Tensor:
    """Half a cosine over [first, last], constant outside; ``end`` when it has no length."""
    x = ((t - first) / (last - first)).clamp(0, 1) if last > first else torch.ones_like(t)
    return half_cosine(x, start, end)
