"""Lets an optimizer of the catalogue run on a surface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.schedules import complete_schedule
from optim_core.tracing.path import Array, Path, has_diverged, label_of
from optim_core.tracing.surfaces import Surface, find_surface
from optim_core.tracing.whole import best_points
from optim_core.transforms.schedulers import PlateauScheduler, build_scheduler
from optim_core.transforms.torch_adapter import build_optimizer

MAX_STEPS = 100_000
CONSTANT: Mapping[str, str | float] = {"name": "constant"}


def trace(
    optimizer: str,
    surface: str,
    start: Sequence[float] | None = None,
    steps: int = 20,
    hyperparameters: Mapping[str, float | bool] | None = None,
    schedule: Mapping[str, str | float] = CONSTANT,
    noise: float = 0.0,
    seed: int = 0,
) -> Path:
    """The path of ``optimizer`` on ``surface`` from ``start`` (default: the surface's own) over ``steps`` steps.

        >>> path = optim_core.trace("momentum", "quadratic", steps=60, hyperparameters={"lr": 0.1})
        >>> path.points.shape, path.values.shape, path.diverged
        ((61, 2), (61,), False)

    ``noise``: standard deviation of Gaussian noise on each number of the gradient, drawn from ``seed``; recorded values
    are without it. The point is a weight of shape (1, 2), so that methods for matrices show their own rule and weight
    decay acts. Where the point to keep is not the one that is trained (Lookahead, schedule-free), the former is recorded.
    Methods that look at values instead of gradients: the best point so far, at the price of a gradient step each.

    Raises SpecError for an unknown name or key, a number out of range, and a schedule for a method that takes none.
    """
    ground, given = find_surface(surface), dict(hyperparameters or {})
    values = _complete(optimizer, given)
    complete_schedule(schedule)
    first = tuple(float(x) for x in (ground.start if start is None else start))
    _check_numbers(first, steps, noise, seed)
    if OPTIMIZERS[optimizer].kind == "gradient":
        points = _walk(optimizer, ground, first, steps, values, schedule, noise, seed)
    elif schedule["name"] != "constant":
        raise SpecError(f"{optimizer} has no learning rate to schedule", code="unknown_schedule")
    else:
        points = best_points(optimizer, ground, first, steps, values, noise, seed)
    heights = ground(torch.from_numpy(points)).numpy()
    heights = np.where(np.isfinite(points).all(1), heights, np.nan)
    label = label_of(optimizer, given, schedule)
    diverged = has_diverged(heights, ground.lowest)
    return Path(optimizer, label, values, dict(schedule), points, heights, diverged)


def _walk(
    name: str,
    surface: Surface,
    start: tuple[float, ...],
    steps: int,
    hyper: Mapping[str, Any],
    schedule: Mapping[str, str | float],
    noise: float,
    seed: int,
) -> Array:
    """(T+1, 2): an ordinary torch training loop."""
    x = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer: Any = build_optimizer(name, [("x", x)], **hyper)
    scheduler = build_scheduler(optimizer, schedule, steps)
    draw = torch.Generator().manual_seed(seed)

    def closure() -> Tensor:
        optimizer.zero_grad()
        slope = noise * torch.randn(1, 2, generator=draw, dtype=torch.float64)
        loss = surface.tilted(x, slope).sum()
        loss.backward()
        return loss.detach()

    points = np.full((steps + 1, 2), np.nan)
    points[0] = start
    for step in range(1, steps + 1):
        try:
            optimizer.step(closure)
        except torch.linalg.LinAlgError:
            # A decomposition of numbers that are not finite any more.
            break
        points[step] = _answer(optimizer, x)
        if not (np.isfinite(points[step]).all() and torch.isfinite(x).all()):
            points[step] = np.nan
            break
        scheduler.step()
        if isinstance(scheduler, PlateauScheduler):
            # Every point is an evaluation, of the surface without noise.
            scheduler.step(float(surface(torch.from_numpy(points[step]))))
    return points


def _answer(optimizer: Any, x: nn.Parameter) -> Array:
    """(2,): the point that counts, which some methods give only while they are switched to evaluation."""
    optimizer.eval()
    point = x.detach().numpy()[0].copy()
    optimizer.train()
    return point


def _complete(optimizer: str, given: Mapping[str, Any]) -> dict[str, float | bool]:
    """All hyperparameters. Raises SpecError for unknown names and for values that the method cannot run with."""
    # Names, types and signs are the torch face's business; the parameter is thrown away.
    build_optimizer(optimizer, [("x", nn.Parameter(torch.zeros(1, 2)))], **given)
    row = OPTIMIZERS[optimizer]
    values = {**row.defaults(), **given}
    for hyper in row.hyperparameters:
        if isinstance(values[hyper.name], bool) != (hyper.sample_as == "flag"):
            what = "true or false" if hyper.sample_as == "flag" else "a number"
            raise SpecError(f"{optimizer}: {hyper.name} must be {what}", code="wrong_type")
    for hyper in row.hyperparameters if row.kind != "gradient" else ():
        value, by_hand = float(values[hyper.name]), hyper.min_trials is None
        # A range for the search is a habit; that of what is only set by hand is what the method can do.
        if by_hand and not hyper.low <= value <= hyper.high:
            text = f"{optimizer}: {hyper.name} must lie in [{hyper.low:g}, {hyper.high:g}]"
            raise SpecError(text, code="number_out_of_range")
        if value == 0 and hyper.name != "weight_decay" and not by_hand:
            raise SpecError(f"{optimizer}: {hyper.name} must be above 0", code="number_out_of_range")
    return values


def _check_numbers(start: tuple[float, ...], steps: int, noise: float, seed: int) -> None:
    if len(start) != 2 or not all(math.isfinite(x) for x in start):
        raise SpecError("start: two finite numbers, x1 and x2", code="number_out_of_range")
    if not 1 <= steps <= MAX_STEPS:
        raise SpecError(f"steps must lie in [1, {MAX_STEPS}]", code="number_out_of_range")
    if not (math.isfinite(noise) and noise >= 0):
        raise SpecError("noise must be a finite number, not negative", code="number_out_of_range")
    if not 0 <= seed < 2**63:
        raise SpecError("seed must lie in [0, 2^63)", code="number_out_of_range")
