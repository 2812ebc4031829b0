"""One method at work: on the weights of one trial, or of K at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optim_core.engine.blocks import Weights
from optim_core.engine.hyper import HyperRow, HyperTable
from optim_core.transforms.base import State, Transform
from optim_core.transforms.rows import Rows


class Method:
    """``weights`` and ``memory`` are changed in place. ``numbers``: the hyperparameters, of one trial or of K; ``factor``: see
    their ``at``.
    """

    def __init__(self, transform: Transform, weights: Weights, numbers: HyperRow | HyperTable) -> None:
        self.transform, self.weights, self.numbers = transform, weights, numbers
        self.memory = self.fresh()

    def fresh(self) -> State:
        """What is remembered before the first step."""
        return self.transform.init(self.weights, self.numbers.at(0))

    def update(self, gradients: Weights, step: int, factor: Any) -> None:
        """One step; it may write into the gradients."""
        self.transform.update_(self.weights, gradients, self.memory, self.numbers.at(step, factor), step + 1)

    def moved(self, gradients: Weights, step: int, factor: Any) -> Weights:
        """The point at which the gradient that counts is taken."""
        assert self.transform.perturb is not None
        return self.transform.perturb(self.weights, gradients, self.numbers.at(step, factor))

    def answer(self) -> Weights:
        """The weights that count."""
        return self.transform.answer(self.weights, self.memory, self.numbers.at(0))


class ByRows(Method):
    """``Method`` of K trials with the fused kernel that torch has for ``name``. ``index``: see ``Rows``."""

    def __init__(self, name: str, index: Mapping[str, int], *method: Any) -> None:
        super().__init__(*method)
        self._name, self._index = name, index
        self._rows: tuple[State, Rows] | None = None

    def update(self, gradients: Weights, step: int, factor: Any) -> None:
        """See ``Method``; gradients are the same tensors at every step."""
        hypers = self.numbers.at(step, factor)
        if self._rows is None or self._rows[0] is not self.memory:
            own = (self.weights, gradients, self.memory)
            self._rows = self.memory, Rows(self._name, *own, hypers, self._index)
        self._rows[1].update_(hypers, step + 1)
