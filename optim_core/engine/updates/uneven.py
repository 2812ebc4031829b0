"""A trial whose weights are of different ages: what a step's loss does not use stays as it is, as in torch.optim."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.engine.blocks import Weights
from optim_core.engine.hyper import hyper_row, transform_techniques
from optim_core.engine.updates.parts import Pack
from optim_core.spec.trial import TrialParams
from optim_core.transforms.base import TRIAL, Hypers, State
from optim_core.transforms.groups import LAYER_RATES
from optim_core.transforms.kept_state import MODEL_STEP, STEP
from optim_core.transforms.roles import roles_of
from optim_core.transforms.techniques import AVERAGE, AVERAGES
from optim_core.transforms.transform_optimizer import TransformOptimizer


class Uneven:
    """The optimizer that people get from ``build_optimizer``, on rows of the pack's weights and gradients.

    ``state``: what was remembered of the trial after ``step`` steps, in all of which every weight that is not asleep had a
    gradient; or what ``Uneven.state`` gave.
    """

    def __init__(self, pack: Pack, trial: TrialParams, row: int, state: State, step: int) -> None:
        own = trial.configuration
        names = [*transform_techniques([own]), *pack.company.rates]
        self._numbers = hyper_row(own, trial.seed, pack.horizon, pack.groups, names)
        self._weights = {name: nn.Parameter(x[row]) for name, x in {**pack.blocks.weights, **pack.asleep}.items()}
        self._slots = {name: x[row] for name, x in {**pack.blocks.slots, **pack.woken}.items()}
        roles, index = roles_of(pack.skeleton), pack.groups.index
        hypers = self._hypers(0)
        # Groups of the optimizer: weights of one group of the pack and of one role.
        kinds = list(dict.fromkeys((index[name], roles.get(name)) for name in self._weights))
        self._groups = [group for group, _ in kinds]
        groups = [
            {
                **hypers[group],
                "role": role,
                "params": [p for name, p in self._weights.items() if (index[name], roles.get(name)) == (group, role)],
            }
            for group, role in kinds
        ]
        self._optimizer = TransformOptimizer(groups, own.optimizer, dict(hypers[0]))
        averages = not own.techniques.keys().isdisjoint(AVERAGES)
        for name, entry in entries_of(pack, state, step, averages=averages).items():
            self._optimizer.state[self._weights[name]] = {key: x.clone() for key, x in entry.items()}

    def _hypers(self, step: int, factor: float = 1.0) -> Hypers:
        found = self._numbers.at(step, factor)
        return [{key: value for key, value in hyper.items() if key not in LAYER_RATES} for hyper in found]

    def update(self, step: int, factor: float, resting: Set[str]) -> None:
        """One step, in which the weights ``resting`` have no gradient. ``factor``: see ``HyperRow.at``."""
        for name, p in self._weights.items():
            p.grad = None if name in resting else self._slots[name]
        hypers = self._hypers(step, factor)
        for group, index in zip(self._optimizer.param_groups, self._groups, strict=True):
            group["lr"] = hypers[index]["lr"]
        # The gradients are those at the point that a method may want to look at.
        self._optimizer.step(lambda: None)

    def answer(self) -> Weights:
        """The weights that count."""
        self._optimizer.eval()
        found = {name: p.detach().clone() for name, p in self._weights.items()}
        self._optimizer.train()
        return found

    def state(self) -> State:
        """What is remembered, by entry and weight, as torch's optimizers keep it; ``step`` is the weight's own."""
        return {STEP: {}, **transposed({name: self._optimizer.state.get(p, {}) for name, p in self._weights.items()})}


def is_uneven(state: State) -> bool:
    """Whether it is what ``Uneven.state`` gave."""
    return STEP in state


def entries_of(pack: Pack, state: State, step: int, *, averages: bool) -> dict[str, dict[str, Any]]:
    """By weight what is remembered of a trial after ``step`` steps, or what ``state`` of one that was uneven already says.
    ``averages``: whether the trial's own techniques do.
    """
    if is_uneven(state):
        return transposed(state)
    return _begun(state, {name: pack.groups.index[name] for name in pack.blocks.weights}, step, averages=averages)


def transposed(state: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """By entry and weight what is by weight and entry, and the other way round."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, own in state.items():
        for name, x in own.items():
            found.setdefault(name, {})[key] = x
    return found


def _begun(state: State, index: Mapping[str, int], step: int, *, averages: bool) -> dict[str, dict[str, Any]]:
    """Entries of weights of one age; none before the first step."""
    if not step:
        return {}
    of_weights = {key: own for key, own in state.items() if key != TRIAL and (averages or key != AVERAGE)}
    entries: dict[str, dict[str, Any]] = {**{name: {} for name in index}, **transposed(of_weights)}
    numbers = state.get(TRIAL, {})
    of_model = {f"{TRIAL}.{key}": x for key, x in numbers.items() if "/" not in key}
    if of_model or averages:
        of_model[MODEL_STEP] = torch.tensor(float(step))
    for name, own in entries.items():
        own[STEP] = torch.tensor(float(step))
        own.update(of_model)
        for key, x in numbers.items():
            stem, slash, group = key.partition("/")
            if slash and int(group) == index[name]:
                own[f"{TRIAL}.{stem}/"] = x
    return entries
