"""A saved state, in the order of another optimizer's weights: by name, else by the order in which they were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor

from optim_core.minimizers.named_optimizer import METHOD, NAMES, PLACES, NamedOptimizer
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.hyperparameters import one_by_one
from optim_core.transforms.kept_state import Method
from optim_core.transforms.techniques import NEUTRAL, techniques_of
from optim_core.transforms.torch_state import from_torch

# Entry of a param group whose optimizer keeps its moments in eight bits.
STATE_BITS = "state_bits"
_OF_WEIGHTS = ("params", NAMES, PLACES)
Groups = Sequence[Mapping[str, Any]]


def fitted(optimizer: NamedOptimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """``saved`` with the param groups of ``optimizer`` and the state of each of its weights.

    Raises SpecError where it was saved by another method or with other techniques, where weights cannot be told apart, where
    a weight has another shape or role than the one that was saved, and where one group would get two sets of hyperparameters.
    """
    optimizer.check_method(saved)
    if any(METHOD not in group for group in saved["param_groups"]):
        saved = from_torch(optimizer.method, saved, optimizer.defaults)
    mine, theirs = optimizer.param_groups, saved["param_groups"]
    _check_techniques(optimizer, theirs)
    source = _sources(mine, theirs)
    group_of = {i: group for group in theirs for i in group["params"]}
    method = Method(optimizer.method, techniques_of(optimizer.defaults), optimizer.defaults.get(STATE_BITS, 32))
    saved_hypers = {id(group): _complete(optimizer, group) for group in theirs}
    state: dict[Any, Any] = {}
    groups: list[dict[str, Any]] = []
    place = 0
    for group in mine:
        places = range(place, place + len(group["params"]))
        place += len(places)
        for i, p in zip(places, group["params"], strict=True):
            if source[i] in saved["state"]:
                state[i] = saved["state"][source[i]]
                method.check_entries(p, state[i], group.get("role"), saved_hypers[id(group_of[source[i]])])
        hypers = [_hyperparameters(group_of[source[i]]) for i in places] or [{}]
        if any(hyper != hypers[0] for hyper in hypers):
            message = "weights that are in one param group here were saved with different hyperparameters"
            raise SpecError(message, code="other_groups")
        own = {key: group[key] for key in (NAMES, PLACES, "role") if key in group}
        groups.append({**optimizer.defaults, **hypers[0], **own, METHOD: optimizer.method, "params": list(places)})
    return {"state": state, "param_groups": groups}


def loaded(state: Mapping[int, Mapping[str, Any]], weights: Sequence[Tensor]) -> dict[int, dict[str, Any]]:
    """Copies, in the precision in which they were saved, on the weights' devices; what was shared stays shared."""
    copies: dict[int, Tensor] = {}

    def copied(value: Any, p: Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in copies:
            # Numbers of a run live on the CPU.
            copies[id(value)] = (
                value.detach().clone() if value.ndim == 0 and p.ndim else value.detach().to(p.device, copy=True)
            )
        return copies[id(value)]

    return {i: {key: copied(value, weights[i]) for key, value in own.items()} for i, own in state.items()}


def _hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in (*_OF_WEIGHTS, "role", METHOD)}


def _complete(optimizer: NamedOptimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters with which a group was saved, one by one."""
    names = (*OPTIMIZERS[optimizer.method].defaults(), "betas")
    return one_by_one(optimizer.method, {k: v for k, v in {**optimizer.defaults, **group}.items() if k in names})


def _listed(groups: Groups, key: str) -> list[Any]:
    return list(chain.from_iterable(group[key] for group in groups)) if all(key in group for group in groups) else []


def _sources(mine: Groups, theirs: Groups) -> list[Any]:
    """For each of our weights, in the order of param groups, the key of its saved state."""
    ids = _listed(theirs, "params")
    names, saved_names = _listed(mine, NAMES), _listed(theirs, NAMES)
    if names and set(names) == set(saved_names):
        by_name = dict(zip(saved_names, ids, strict=True))
        return [by_name[name] for name in names]
    sizes, saved_sizes = ([len(group["params"]) for group in groups] for groups in (mine, theirs))
    if sizes == saved_sizes:
        return ids
    if sum(sizes) != sum(saved_sizes):
        message = f"this state is of {sum(saved_sizes)} weights, and the optimizer has {sum(sizes)}"
        raise SpecError(message, code="other_weights")
    given = _listed(theirs, PLACES) or list(range(len(ids)))
    in_order = dict(zip(given, ids, strict=True))
    return [in_order[place] for place in _listed(mine, PLACES)]


def _check_techniques(optimizer: NamedOptimizer, theirs: Groups) -> None:
    own = sorted(NEUTRAL.keys() & optimizer.defaults.keys())
    for group in theirs:
        saved = sorted(NEUTRAL.keys() & group.keys())
        if saved != own:
            message = f"this state was saved with the techniques {saved}, and the optimizer has {own}"
            raise SpecError(message, code="other_techniques")
        bits, own_bits = group.get(STATE_BITS, 32), optimizer.defaults.get(STATE_BITS, 32)
        if bits != own_bits:
            message = f"this state was saved in {bits} bits, and the optimizer keeps it in {own_bits}"
            raise SpecError(message, code="other_state_bits")
