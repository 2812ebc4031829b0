"""The part of a pack that one optimizer updates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from optim_core.engine.blocks import Blocks, Weights
from optim_core.engine.company import Company
from optim_core.engine.hyper import HyperTable, hyper_table, layout_of
from optim_core.engine.moves import give, taken
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import Layout, State, Transform
from optim_core.transforms.groups import Groups
from optim_core.transforms.registry import build_transform
from optim_core.transforms.rows import METHODS, Rows


class Slice:
    """Neighbouring trials of one optimizer. ``span``: their rows in the blocks."""

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
        self.span, self._blocks = span, blocks
        configurations = [t.configuration for t in trials]
        name = configurations[0].optimizer
        techniques = company.techniques[name]
        device, names = next(iter(blocks.data.values())).device, [*techniques, *company.rates]
        self.table: HyperTable = hyper_table(configurations, [t.seed for t in trials], horizon, groups, device, names)
        layout = layout_of(skeleton, groups, batched=True)
        self.transform: Transform = build_transform(name, layout, techniques)
        self._whole = self.transform.shape_free
        if self._whole:
            self.transform = build_transform(name, Layout(batched=True, groups=blocks.index), techniques)
        self._weights, self._gradients = self._own(blocks.data), self._own(blocks.gradients)
        self.memory: State = self.transform.init(self._weights, self.table.at(0))
        self._fused = name if name in METHODS and not techniques and device.type == "cpu" else None
        self._rows: Rows | None = None

    def _own(self, blocks: Weights) -> Weights:
        part = {name: x[self.span] for name, x in blocks.items()}
        return part if self._whole else self._blocks.cut(part)

    def update(self, step: int, factor: Tensor | None) -> None:
        """One step from the blocks's gradients. ``factor``: see ``HyperTable.at``."""
        hypers = self.table.at(step, factor)
        if self._fused is None:
            self.transform.update_(self._weights, self._gradients, self.memory, hypers, step + 1)
            return
        if self._rows is None:
            own = (self._weights, self._gradients, self.memory)
            self._rows = Rows(self._fused, *own, hypers, self._blocks.index)
        self._rows.update_(hypers, step + 1)

    @property
    def looks_again(self) -> bool:
        """Whether the gradient that counts is taken at another point."""
        return self.transform.perturb is not None

    @property
    def answers_elsewhere(self) -> bool:
        """Whether the point to evaluate differs from the one that is trained."""
        return self.transform.answers_elsewhere

    def answer(self) -> Weights:
        """The weights of these trials that count, by name."""
        found = self.transform.answer(self._weights, self.memory, self.table.at(0))
        return self._by_name(found)

    def moved(self, step: int, factor: Tensor | None) -> Weights:
        """The point at which the gradient that counts is taken, by name."""
        assert self.transform.perturb is not None
        moved = self.transform.perturb(self._weights, self._gradients, self.table.at(step, factor))
        return self._by_name(moved)

    def state(self) -> list[State]:
        """What the method remembers of each trial; see ``moves``."""
        return taken(self.memory, self._blocks, self._whole) or [{} for _ in range(self.span.stop - self.span.start)]

    def restore(self, states: Sequence[State]) -> None:
        """Continue from what ``state`` gave, of these trials or of others like them."""
        self.memory = self.transform.init(self._weights, self.table.at(0))
        give(self.memory, states, self._blocks, self._whole)
        self._rows = None

    def _by_name(self, weights: Weights) -> Weights:
        return self._blocks.cut(weights) if self._whole else weights
