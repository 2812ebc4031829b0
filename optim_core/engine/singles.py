"""The part of a pack that one optimizer updates, one trial after the other.

Numbers of a single trial are plain floats, which torch folds into its operations. Up to three trials of a method without a
fused kernel take less time that way than together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optim_core.engine.blocks import Blocks, Weights
from optim_core.engine.company import Company
from optim_core.engine.hyper import HyperRow, hyper_row, layout_of, transform_techniques
from optim_core.engine.moves import give, taken
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import Hypers, Layout, State, Transform
from optim_core.transforms.groups import Groups
from optim_core.transforms.registry import build_transform


@dataclass
class _One:
    """A trial: its own views of weights and gradients, hyperparameters and memory."""

    transform: Transform
    weights: Weights
    gradients: Weights
    hyper: HyperRow
    memory: State


class Singles:
    """As ``slices.Slice``, with the same state."""

    def __init__(
        self,
        span: slice,
        trials: Sequence[TrialParams],
        skeleton: nn.Module,
        blocks: Blocks,
        groups: Groups,
        horizon: int,
        company: Company,
    ) -> None:
        self.span, self._blocks, self._groups = span, blocks, groups
        self._ones = [
            self._one(span.start + i, trial, skeleton, horizon, company.rates) for i, trial in enumerate(trials)
        ]

    def _one(self, row: int, trial: TrialParams, skeleton: nn.Module, horizon: int, rates: Sequence[str]) -> _One:
        configuration, blocks, groups = trial.configuration, self._blocks, self._groups
        techniques = transform_techniques([configuration])
        transform = build_transform(configuration.optimizer, layout_of(skeleton, groups, batched=False), techniques)
        if transform.shape_free:
            transform = build_transform(configuration.optimizer, Layout(groups=blocks.index), techniques)
        weights, gradients = (
            {name: x[row] for name, x in (part if transform.shape_free else blocks.cut(part)).items()}
            for part in (blocks.data, blocks.gradients)
        )
        hyper = hyper_row(configuration, trial.seed, horizon, groups, [*techniques, *rates])
        return _One(transform, weights, gradients, hyper, transform.init(weights, hyper.at(0)))

    def update(self, step: int, factor: Tensor | None) -> None:
        """See ``Slice``."""
        for one, hypers in self._each(step, factor):
            one.transform.update_(one.weights, one.gradients, one.memory, hypers, step + 1)

    @property
    def looks_again(self) -> bool:
        """See ``Slice``."""
        return self._ones[0].transform.perturb is not None

    @property
    def answers_elsewhere(self) -> bool:
        """See ``Slice``."""
        return any(one.transform.answers_elsewhere for one in self._ones)

    def answer(self) -> Weights:
        """See ``Slice``."""
        found = [one.transform.answer(one.weights, one.memory, hypers) for one, hypers in self._each(0, None)]
        return self._by_name(found)

    def moved(self, step: int, factor: Tensor | None) -> Weights:
        """See ``Slice``."""
        found = []
        for one, hypers in self._each(step, factor):
            assert one.transform.perturb is not None
            found.append(one.transform.perturb(one.weights, one.gradients, hypers))
        return self._by_name(found)

    def state(self) -> list[State]:
        """See ``Slice``."""
        return [
            taken(_stacked(one.memory), self._blocks, one.transform.shape_free)[0] if one.memory else {}
            for one in self._ones
        ]

    def restore(self, states: Sequence[State]) -> None:
        """See ``Slice``."""
        for (one, hypers), state in zip(self._each(0, None), states, strict=True):
            memory = _stacked(one.transform.init(one.weights, hypers))
            give(memory, [state], self._blocks, one.transform.shape_free)
            one.memory = {key: {name: x[0] for name, x in own.items()} for key, own in memory.items()}

    def _each(self, step: int, factor: Tensor | None) -> list[tuple[_One, Hypers]]:
        scales = [1.0] * len(self._ones) if factor is None else factor.tolist()
        return [(one, one.hyper.at(step, scale)) for one, scale in zip(self._ones, scales, strict=True)]

    def _by_name(self, found: list[Weights]) -> Weights:
        cut = []
        for one, weights in zip(self._ones, found, strict=True):
            own = {name: x.unsqueeze(0) for name, x in weights.items()}
            cut.append(self._blocks.cut(own) if one.transform.shape_free else own)
        return {name: torch.cat([own[name] for own in cut]) for name in cut[0]}


def _stacked(memory: State) -> State:
    return {key: {name: x.unsqueeze(0) for name, x in own.items()} for key, own in memory.items()}
