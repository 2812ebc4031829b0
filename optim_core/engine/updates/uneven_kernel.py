"""A trial whose weights are of different ages, with a method that torch has a fused kernel for: it takes a step of each."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor

from optim_core.engine.blocks import Weights
from optim_core.engine.hyper import hyper_row
from optim_core.engine.updates.parts import Pack
from optim_core.engine.updates.uneven import entries_of, transposed
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import State
from optim_core.transforms.kept_state import STEP
from optim_core.transforms.rows import METHODS


def fits(pack: Pack, trial: TrialParams) -> bool:
    """Whether it can be used: not where 16-bit weights want arithmetic in float32, and without techniques in the update."""
    if pack.company.ways[trial.configuration.optimizer] != "rows":
        return False
    return all(x.dtype in (torch.float32, torch.float64) for x in (*pack.blocks.data.values(), *pack.asleep.values()))


class UnevenByKernel:
    """As ``Uneven``, without what makes an optimizer a person's: a step is one call for each of a pack's groups."""

    def __init__(self, pack: Pack, trial: TrialParams, row: int, state: State, step: int) -> None:
        own = trial.configuration
        self._kernel = METHODS[own.optimizer]
        self._numbers = hyper_row(own, trial.seed, pack.horizon, pack.groups, pack.company.rates)
        self._weights = {name: x[row] for name, x in {**pack.blocks.weights, **pack.asleep}.items()}
        self._slots = {name: x[row] for name, x in {**pack.blocks.slots, **pack.woken}.items()}
        self._groups: dict[int, list[str]] = {}
        for name in self._weights:
            self._groups.setdefault(pack.groups.index[name], []).append(name)
        entries = entries_of(pack, state, step, averages=False)
        # No entry: the weight has not been used yet.
        self._state = {name: {key: x.clone() for key, x in found.items()} for name, found in entries.items() if found}

    def update(self, step: int, factor: float, resting: Set[str]) -> None:
        """See ``Uneven``."""
        hypers = self._numbers.at(step, factor)
        for group, everyone in self._groups.items():
            names = [name for name in everyone if name not in resting]
            if not names:
                continue
            owns = [self._state.get(name) or self._begin(name) for name in names]
            for own in owns:
                own[STEP] += 1
            weights, gradients = [self._weights[name] for name in names], [self._slots[name] for name in names]
            held = [[own[key] for own in owns] for key in self._kernel.keys]
            hyper = hypers[group]
            rate, decay = float(hyper["lr"]), float(hyper["weight_decay"])
            self._kernel.step(weights, gradients, held, [own[STEP] for own in owns], rate, decay, hyper)

    def _begin(self, name: str) -> dict[str, Tensor]:
        p = self._weights[name]
        own = {STEP: torch.zeros(()), **{key: torch.zeros_like(p) for key in self._kernel.keys}}
        self._state[name] = own
        return own

    def answer(self) -> Weights:
        """See ``Uneven``."""
        return {name: p.clone() for name, p in self._weights.items()}

    def state(self) -> State:
        """See ``Uneven``."""
        return {STEP: {}, **transposed(self._state)}
