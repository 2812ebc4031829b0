"""What one optimizer does to its trials in a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from optim_core.engine.blocks import Weights
from optim_core.engine.updates import uneven_kernel
from optim_core.engine.updates.parts import Pack, parts_of
from optim_core.engine.updates.uneven import Uneven, is_uneven
from optim_core.engine.updates.uneven_kernel import UnevenByKernel
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import State


class Updater:
    """Neighbouring trials of one optimizer. ``span``: their rows in the pack's blocks.

    A trial whose loss leaves out a weight in some step, or that skips a step, is updated by itself from then on (``uneven``);
    what the method of its part makes of its row is thrown away.
    """

    def __init__(self, span: slice, trials: Sequence[TrialParams], pack: Pack) -> None:
        self.span, self._trials, self._pack = span, trials, pack
        self._parts = parts_of(pack, trials, span)
        self._uneven: dict[int, Uneven | UnevenByKernel] = {}

    def update(
        self, step: int, factor: Tensor | None, unused: Mapping[str, Tensor], skipped: Tensor | None = None
    ) -> None:
        """One step from the blocks' gradients. ``factor``: (k,), see ``HyperTable.at``; ``unused``: name → (k,) bools, of
        weights that have no gradient in this step; ``skipped``: (k,) bools, of trials that do not take it.
        """
        idle = set() if skipped is None else set(skipped.nonzero().flatten().tolist())
        if unused or self._pack.asleep:
            self._part_with(self._otherwise(unused), step)
        self._part_with(sorted(idle), step)
        if self._uneven:
            self._update_unevenly(step, factor, unused, idle)
            return
        for part in self._parts:
            part.method.update(part.gradients, step, part.factor(factor))

    def _update_unevenly(self, step: int, factor: Tensor | None, unused: Mapping[str, Tensor], idle: Set[int]) -> None:
        left_out = {name: own.tolist() for name, own in unused.items()}
        for i, one in self._uneven.items():
            if i in idle:
                continue
            resting = {name for name, own in left_out.items() if own[i]}
            one.update(step, 1.0 if factor is None else float(factor[i]), resting)
        mixed = [p for p in self._parts if not self._uneven.keys() >= set(range(p.rows.start, p.rows.stop))]
        if not mixed:
            return
        blocks, rows = self._pack.blocks.data.values(), [self.span.start + i for i in self._uneven]
        kept = [x[rows] for x in blocks]
        for part in mixed:
            part.method.update(part.gradients, step, part.factor(factor))
        for x, own in zip(blocks, kept, strict=True):
            x[rows] = own

    def _part_with(self, trials: Sequence[int], step: int) -> None:
        new = [i for i in trials if i not in self._uneven]
        states = self.state() if new else []
        self._uneven |= {i: self._alone(i, states[i], step) for i in new}

    def _otherwise(self, unused: Mapping[str, Tensor]) -> list[int]:
        """Trials that have used others than the weights that are awake."""
        asleep = self._pack.asleep.keys()
        if not asleep <= unused.keys():
            return list(range(len(self._trials)))
        odd = torch.stack([own != (name in asleep) for name, own in unused.items()])
        return odd.any(0).nonzero().flatten().tolist()

    def _alone(self, i: int, state: State, step: int) -> Uneven | UnevenByKernel:
        how = UnevenByKernel if uneven_kernel.fits(self._pack, self._trials[i]) else Uneven
        return how(self._pack, self._trials[i], self.span.start + i, state, step)

    @property
    def looks_again(self) -> bool:
        """Whether the gradient that counts is taken at another point."""
        return self._parts[0].method.transform.perturb is not None

    @property
    def answers_elsewhere(self) -> bool:
        """Whether the point to evaluate differs from the one that is trained."""
        return any(part.method.transform.answers_elsewhere for part in self._parts)

    def answer(self) -> Weights:
        """The weights of these trials that count, by name."""
        found = self._together([part.by_name(part.method.answer()) for part in self._parts])
        if self._uneven:
            found = {name: x.clone() for name, x in found.items()}
            for i, one in self._uneven.items():
                for name, x in one.answer().items():
                    found[name][i] = x
        return found

    def moved(self, step: int, factor: Tensor | None) -> Weights:
        """The point at which the gradient that counts is taken, by name. A weight without a gradient stays where it is."""
        return self._together(
            [part.by_name(part.method.moved(part.gradients, step, part.factor(factor))) for part in self._parts]
        )

    def _together(self, parts: Sequence[Weights]) -> Weights:
        found = {name: torch.cat([own[name] for own in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]
        return {**found, **{name: x[self.span] for name, x in self._pack.asleep.items()}}

    def state(self) -> list[State]:
        """What the method remembers of each trial; see ``moves``."""
        found = [one for part in self._parts for one in part.state()]
        return [self._uneven[i].state() if i in self._uneven else one for i, one in enumerate(found)]

    def restore(self, states: Sequence[State]) -> None:
        """Continue from what ``state`` gave, of these trials or of others like them."""
        even = [{} if is_uneven(state) else state for state in states]
        for part in self._parts:
            part.restore(even[part.rows])
        self._uneven = {i: self._alone(i, state, 0) for i, state in enumerate(states) if is_uneven(state)}
