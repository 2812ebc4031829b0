"""What a minimizer sees: a function to evaluate, which counts, remembers the best point and ends the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optim_core.spec.errors import SpecError

Vector = NDArray[np.float64]
# Hyperparameters by their name in the catalogue. ``weight_decay`` is the objective's business.
Hyper = Mapping[str, float | bool]
# What a value counts as that is not finite or even larger: last in every ranking, and no line search overflows on it.
LARGE = 1e30


def usable(value: float) -> bool:
    """Whether a raw value can be a minimum. Minus infinity is a failure of the arithmetic."""
    return -math.inf < value < LARGE


def above(hyper: Hyper, name: str, least: float = 0.0) -> float:
    """The hyperparameter ``name`` as a float. Raises SpecError unless it is finite and above ``least``."""
    value = float(hyper[name])
    if not (math.isfinite(value) and value > least):
        raise SpecError(f"{name} must be above {least:g}, not {value:g}", code="number_out_of_range")
    return value


class BudgetSpent(Exception):
    """Raised by an objective instead of an evaluation that would cost more than is left."""


class Objective(Protocol):
    """A function of n float64 numbers. Values are finite, at most ``LARGE``, and gradients are finite, whatever happens.

    The objective, not the method, remembers the best point. Every evaluation may raise BudgetSpent.
    """

    @property
    def size(self) -> int:
        """n, at least 1."""
        ...

    @property
    def start(self) -> Vector:
        """Where the run begins, (n,); the caller's own copy."""
        ...

    def value(self, x: Vector) -> float:
        """The value at ``x`` (n,)."""
        ...

    def value_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        """The value and the gradient (n,) at ``x`` (n,)."""
        ...

    def values(self, points: Vector) -> Vector:
        """The values (P,) of a population (P, n)."""
        ...


# (objective, hyperparameters, seed): evaluates until it converges or the objective raises BudgetSpent.
Minimizer = Callable[[Objective, Hyper, int], None]
