"""An objective made of plain functions, with a price list and a memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from optim_core.minimizers.base import LARGE, BudgetSpent, Vector, usable

# A backward pass costs about two forward passes.
GRADIENT_COST = 3


def _no_more(needed: float) -> NoReturn:
    raise BudgetSpent(f"the next evaluation would bring the cost to {needed:g} forward evaluations")


def _ignore(cost: float) -> None:
    del cost


class Counted:
    """See ``base.Objective``. Counts forward evaluations: a value costs 1, a value with its gradient ``gradient_cost``.

    Args: start: (n,). value, value_and_gradient, values: plain functions with the signatures of ``base.Objective`` that
    may return anything non-finite; without ``values``, populations are evaluated point by point. limit: the cost never
    exceeds it. block: ``values`` is called with at most so many points, which are paid together; where the blocks lie
    depends on the population alone, so that results do not depend on the limit. on_evaluation: called with the cost so
    far after every evaluation. more: called with the cost that the next evaluation would reach when that is above
    ``limit``; it raises BudgetSpent (the default) or returns after ``limit`` was raised.
    """

    def __init__(
        self,
        start: Vector,
        value: Callable[[Vector], float],
        value_and_gradient: Callable[[Vector], tuple[float, Vector]],
        values: Callable[[Vector], Vector] | None = None,
        *,
        limit: float = math.inf,
        gradient_cost: int = GRADIENT_COST,
        block: int = 1,
        on_evaluation: Callable[[float], None] = _ignore,
        more: Callable[[float], None] = _no_more,
    ) -> None:
        self._start = np.array(start, dtype=np.float64)
        self._value, self._value_and_gradient, self._values = value, value_and_gradient, values
        self.limit, self.more, self.on_evaluation = limit, more, on_evaluation
        self.gradient_cost, self.block = gradient_cost, block if values is not None else 1
        self.cost = 0
        # The start until something finite was seen.
        self.best_point, self.best_value = self.start, math.inf

    @property
    def size(self) -> int:
        return len(self._start)

    @property
    def start(self) -> Vector:
        return self._start.copy()

    def value(self, x: Vector) -> float:
        self._pay(1)
        return self._see(x, self._value(x))

    def value_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        self._pay(self.gradient_cost)
        found, gradient = self._value_and_gradient(x)
        gradient = np.asarray(gradient, dtype=np.float64)
        if not usable(found):
            gradient = np.zeros_like(gradient)
        return self._see(x, found), np.where(np.isfinite(gradient), gradient, 0.0)

    def values(self, points: Vector) -> Vector:
        found = np.empty(len(points))
        for first in range(0, len(points), self.block):
            part = points[first : first + self.block]
            self._pay(len(part))
            raw = [self._value(part[0])] if self._values is None else self._values(part)
            for i, (x, value) in enumerate(zip(part, raw, strict=True)):
                found[first + i] = self._remember(x, float(value))
            self.on_evaluation(self.cost)
        return found

    def _pay(self, price: int) -> None:
        while self.cost + price > self.limit:
            self.more(self.cost + price)
        self.cost += price

    def _see(self, x: Vector, value: float) -> float:
        value = self._remember(x, float(value))
        self.on_evaluation(self.cost)
        return value

    def _remember(self, x: Vector, value: float) -> float:
        """The value made finite; ``x`` is copied when it is the best so far."""
        if not usable(value):
            return LARGE
        if value < self.best_value:
            self.best_point, self.best_value = np.array(x, dtype=np.float64), value
        return value
