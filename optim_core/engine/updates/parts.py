"""Trials of one optimizer, updated together or one by one: their rows of a pack's blocks, and the method on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from optim_core.engine.blocks import Blocks, Weights
from optim_core.engine.hyper import hyper_row, hyper_table, layout_of, transform_techniques
from optim_core.engine.moves import give, taken
from optim_core.engine.updates.company import Company
from optim_core.engine.updates.method import ByRows, Method
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import Layout, State
from optim_core.transforms.groups import Groups
from optim_core.transforms.registry import build_transform


@dataclass(frozen=True)
class Pack:
    """What all parts of a pack share. ``asleep``: weights that no loss has used yet, and ``woken`` their gradients, (K, *shape)
    by name; all others are in the blocks.
    """

    skeleton: nn.Module
    blocks: Blocks
    asleep: Weights
    woken: Weights
    groups: Groups
    horizon: int
    company: Company


@dataclass(frozen=True)
class Part:
    """``rows``: of the optimizer's trials, those that ``method`` updates. ``whole``: it takes blocks as they are, else weights
    by name; ``alone``: there is one trial, and no axis of trials.
    """

    rows: slice
    method: Method
    gradients: Weights
    blocks: Blocks
    whole: bool
    alone: bool

    def factor(self, factor: Tensor | None) -> Tensor | float | None:
        """Of all the optimizer's trials → as the method takes it."""
        return factor if factor is None or not self.alone else float(factor[self.rows])

    def by_name(self, weights: Weights) -> Weights:
        """What the method gives, as (k, *shape) by name."""
        stacked = _stacked(weights) if self.alone else weights
        return self.blocks.cut(stacked) if self.whole else stacked

    def state(self) -> list[State]:
        """See ``Updater``."""
        memory = {key: _stacked(own) if self.alone else own for key, own in self.method.memory.items()}
        return taken(memory, self.blocks, self.whole) or [{} for _ in range(self.rows.stop - self.rows.start)]

    def restore(self, states: Sequence[State]) -> None:
        """See ``Updater``."""
        memory = {key: _stacked(own) if self.alone else own for key, own in self.method.fresh().items()}
        give(memory, states, self.blocks, self.whole)
        self.method.memory = {key: _first(own) if self.alone else own for key, own in memory.items()}


def parts_of(pack: Pack, trials: Sequence[TrialParams], span: slice) -> list[Part]:
    """The trials of one optimizer, whose rows in the pack are ``span``, in the way that its company has chosen."""
    size = 1 if pack.company.ways[trials[0].configuration.optimizer] == "alone" else len(trials)
    return [_part(pack, trials, slice(i, i + size), span.start) for i in range(0, len(trials), size)]


def _part(pack: Pack, everyone: Sequence[TrialParams], rows: slice, first: int) -> Part:
    trials, blocks = everyone[rows], pack.blocks
    configurations, seeds = [trial.configuration for trial in trials], [trial.seed for trial in trials]
    name = configurations[0].optimizer
    way, device = pack.company.ways[name], next(iter(blocks.data.values())).device
    alone = way == "alone"
    techniques = transform_techniques(configurations) if alone else pack.company.techniques[name]
    whole = build_transform(name, techniques=techniques).shape_free
    layout = layout_of(pack.skeleton, pack.groups, batched=not alone)
    transform = build_transform(name, Layout(not alone, groups=blocks.index) if whole else layout, techniques)

    def own(part: Weights) -> Weights:
        rows_of = {key: x[first + rows.start : first + rows.stop] for key, x in part.items()}
        named = rows_of if whole else blocks.cut(rows_of)
        return _first(named) if alone else named

    weights, names = own(blocks.data), [*techniques, *pack.company.rates]
    if alone:
        numbers = hyper_row(configurations[0], seeds[0], pack.horizon, pack.groups, names)
    else:
        numbers = hyper_table(configurations, seeds, pack.horizon, pack.groups, device, names)
    made = (transform, weights, numbers)
    method = ByRows(name, blocks.index, *made) if way == "rows" else Method(*made)
    return Part(rows, method, own(blocks.gradients), blocks, whole, alone)


def _stacked(tensors: Weights) -> Weights:
    return {name: x.unsqueeze(0) for name, x in tensors.items()}


def _first(tensors: Weights) -> Weights:
    return {name: x[0] for name, x in tensors.items()}
