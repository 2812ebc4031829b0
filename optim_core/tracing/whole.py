"""Traces of methods that look at the loss itself: quasi-Newton and gradient-free ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from optim_core.minimizers.counted import GRADIENT_COST, Counted
from optim_core.minimizers.registry import minimize
from optim_core.tracing.path import Array
from optim_core.tracing.surfaces import Surface


def best_points(
    name: str,
    surface: Surface,
    start: tuple[float, ...],
    steps: int,
    hyper: Mapping[str, float | bool],
    noise: float,
    seed: int,
) -> Array:
    """(T+1, 2): row k is the best point seen when k gradient steps' worth of forward evaluations were paid.

    A method that converges earlier stays where it is.
    """
    value, value_and_gradient = _plain(surface, float(hyper.get("weight_decay", 0.0)), noise, seed)
    bests: list[tuple[float, Array]] = []
    objective = Counted(
        np.array(start),
        value,
        value_and_gradient,
        limit=GRADIENT_COST * steps,
        on_evaluation=lambda cost: bests.append((cost, objective.best_point.copy())),
    )
    minimize(name, objective, hyper, seed)
    points = np.empty((steps + 1, 2))
    points[:] = start
    seen = 0
    for step in range(1, steps + 1):
        points[step] = points[step - 1]
        while seen < len(bests) and bests[seen][0] <= GRADIENT_COST * step:
            points[step] = bests[seen][1]
            seen += 1
    return points


def _plain(
    surface: Surface, weight_decay: float, noise: float, seed: int
) -> tuple[Callable[[Array], float], Callable[[Array], tuple[float, Array]]]:
    """Value, and value with gradient, of the surface with its noise and the L2 penalty wd/2·‖x‖², on numpy arrays."""
    draw = torch.Generator().manual_seed(seed)

    def height(x: Tensor) -> Tensor:
        slope = noise * torch.randn(2, generator=draw, dtype=torch.float64)
        return surface.tilted(x, slope) + weight_decay / 2 * (x * x).sum()

    def value(x: Array) -> float:
        return float(height(torch.tensor(x)))

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        point = torch.tensor(x, requires_grad=True)
        found = height(point)
        (gradient,) = torch.autograd.grad(found, point)
        return float(found.detach()), gradient.numpy()

    return value, value_and_gradient
