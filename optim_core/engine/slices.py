"""The part of a pack that one optimizer updates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from optim_core.engine.arena import Arena, Weights
from optim_core.engine.hyper import HyperTable, hyper_table, layout_of, transform_techniques
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import Layout, State, Transform
from optim_core.transforms.groups import Groups
from optim_core.transforms.registry import build_transform
from optim_core.transforms.rows import METHODS, Rows


class Slice:
    """Neighbouring trials of one optimizer. ``span``: their rows in the arena."""

    def __init__(
        self,
        span: slice,
        trials: Sequence[TrialParams],
        skeleton: nn.Module,
        arena: Arena,
        groups: Groups,
        horizon: int,
    ) -> None:
        self.span, self._arena = span, arena
        configurations = [t.configuration for t in trials]
        name, techniques = configurations[0].optimizer, transform_techniques(configurations)
        device = arena.data.device
        self.table: HyperTable = hyper_table(configurations, [t.seed for t in trials], horizon, groups, device)
        layout = layout_of(skeleton, groups, batched=True)
        self.transform: Transform = build_transform(name, layout, techniques)
        self._whole = self.transform.shape_free
        if self._whole:
            self.transform = build_transform(name, Layout(batched=True, groups=arena.index), techniques)
        self.memory: State = self.transform.init(self._own(arena.data), self.table.at(0))
        self._fused = name if name in METHODS and not techniques and device.type == "cpu" else None
        self._rows: Rows | None = None

    def _own(self, rows: Tensor) -> Weights:
        part = rows[self.span]
        return self._arena.flat(part) if self._whole else self._arena.cut(part)

    def update(self, step: int, factor: Tensor | None) -> None:
        """One step from the arena's gradients. ``factor``: see ``HyperTable.at``."""
        hypers = self.table.at(step, factor)
        own = self._own(self._arena.data), self._own(self._arena.gradients)
        if self._fused is None:
            self.transform.update_(*own, self.memory, hypers, step + 1)
            return
        if self._rows is None:
            self._rows = Rows(self._fused, *own, self.memory, self._arena.index, hypers)
        self._rows.update_(hypers, step + 1)

    def answer(self) -> Weights:
        """The weights of these trials that count, by name."""
        found = self.transform.answer(self._own(self._arena.data), self.memory, self.table.at(0))
        return self._by_name(found)

    def moved(self, step: int, factor: Tensor | None) -> Weights:
        """The point at which the gradient that counts is taken, by name."""
        assert self.transform.perturb is not None
        own = self._own(self._arena.data), self._own(self._arena.gradients)
        return self._by_name(self.transform.perturb(*own, self.table.at(step, factor)))

    def state(self) -> list[State]:
        """What the method remembers of each trial."""
        count = self.span.stop - self.span.start
        return [{key: {n: x[i] for n, x in own.items()} for key, own in self.memory.items()} for i in range(count)]

    def restore(self, states: Sequence[State]) -> None:
        """Continue from what ``state`` gave, of these trials or of others like them."""
        first = states[0]
        self.memory = {
            key: {name: torch.stack([state[key][name] for state in states]) for name in own}
            for key, own in first.items()
        }
        self._rows = None

    def _by_name(self, weights: Weights) -> Weights:
        return self._arena.cut(self._arena.rows_of(weights)) if self._whole else weights
