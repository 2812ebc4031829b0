"""Learning-rate multipliers in closed form: f(t) for t = 0 … T−1, the step about to be taken. No momentum is touched.

A shape is a function (t, T, parameters) → f of t's shape; t is float64. Families: decays, cycles, holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from optim_core.schedules import cycles, decays, holds
from optim_core.spec.errors import SpecError
from optim_core.spec.schedules import complete_schedule

Shape = Callable[[Tensor, int, Mapping[str, float]], Tensor]

SHAPES: dict[str, Shape] = {
    "constant": holds.constant,
    "cosine": decays.cosine,
    "linear": decays.linear,
    "polynomial": decays.polynomial,
    "step": decays.step,
    "multistep": decays.multistep,
    "exponential": decays.exponential,
    "inverse_sqrt": decays.inverse_sqrt,
    "inverse_time": decays.inverse_time,
    "sgdr": cycles.sgdr,
    "triangular": cycles.triangular,
    "triangular2": cycles.triangular2,
    "exp_range": cycles.exp_range,
    "one_cycle": cycles.one_cycle,
    "wsd": holds.wsd,
    "hold_cosine": holds.hold_cosine,
    # What follows from the losses is not a function of t: ``plateau`` keeps it.
    "reduce_on_plateau": holds.constant,
}


def multipliers(schedule: Mapping[str, str | float], total_steps: int) -> Tensor:
    """(T,) float64 multipliers of the learning rate. Raises SpecError for an unknown schedule or parameter, or T < 1.

    Warm-up multiplies the first w = round(warmup_fraction·T) values by (t + 1)/w, in front of any shape that has no rise
    of its own. Of reduce_on_plateau this is the warm-up alone; the learning rate is lr · this · ``plateau``'s factor.
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
