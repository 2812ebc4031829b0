"""What torch.optim's own classes save, as our state of the same method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.kept_state import STEP
from optim_core.transforms.muon import COEFFICIENTS, ITERATIONS

# What torch's group says about the rule itself, and for which methods it has to be true; absent counts as false.
_SWITCHES = {
    "nesterov": {"nesterov", "muon"},
    "amsgrad": {"amsgrad"},
    "dampening": set(),
    "decoupled_weight_decay": {"adamw"},
}
# Numbers of a rule that are fixed here: (method, torch's argument) → the only value that can be taken over.
_FIXED = {
    ("adafactor", "beta2_decay"): -0.8,
    ("adafactor", "eps1"): None,
    ("muon", "ns_steps"): ITERATIONS,
    ("muon", "ns_coefficients"): COEFFICIENTS,
}
# No twins: ASGD's answer lies in its state only, Muon takes matrices only. What they keep is ours all the same; what the
# first works out from steps is left.
_BESIDES = {"asgd": {"ax": "average"}, "muon": {"momentum_buffer": "buffer"}}
_WORKED_OUT = {"asgd": {"eta", "mu"}}


def from_torch(method: str, saved: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``saved``, the state_dict of torch's class for ``method``, in our words. ``defaults``: our hyperparameters.

    Raises SpecError where it is not that class's, or with switches that make it another method.
    """
    twin = OPTIMIZERS[method].torch
    keys = _BESIDES.get(method) if twin is None else twin.state
    if keys is None:
        message = (
            "this state does not say which method saved it, as ours do, and no class of torch.optim keeps what "
            f"{method} does"
        )
        raise SpecError(message, code="other_method")
    pairs = {} if twin is None else twin.pairs
    groups = [_group(method, _unpaired(method, group, pairs), defaults) for group in saved["param_groups"]]
    return {"state": {i: _entry(method, keys, own) for i, own in saved["state"].items()}, "param_groups": groups}


def _unpaired(method: str, group: Mapping[str, Any], pairs: Mapping[str, tuple[str, str]]) -> Mapping[str, Any]:
    """``group`` with arguments that are two hyperparameters as these; betas stay together, as in our groups."""
    found = dict(group)
    for argument, names in pairs.items():
        if argument != "betas" and argument in found:
            found |= zip(names, found.pop(argument), strict=True)
    if method == "adafactor" and isinstance(found.get("eps"), tuple | list):
        found["eps1"], found["eps"] = found["eps"]
    if method == "muon" and "adjust_lr_fn" in found:
        found["match_rms_adamw"] = found["adjust_lr_fn"] == "match_rms_adamw"
        # That of the orthogonal step; ours is the AdamW part's.
        del found["eps"]
    return found


def _group(method: str, group: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for switch, methods in _SWITCHES.items():
        if switch in group and bool(group[switch]) != (method in methods):
            raise SpecError(
                f"this state was saved with {switch}={group[switch]!r}, which {method} is not", code="other_method"
            )
    for (name, key), value in _FIXED.items():
        if name == method and group.get(key, value) != value:
            raise SpecError(
                f"this state was saved with {key}={group[key]!r}, which {method} is not", code="other_method"
            )
    kept = {
        key: value for key, value in group.items() if key in defaults or key in ("params", "param_names", "initial_lr")
    }
    return {**kept, "base_lr": group.get("initial_lr", group["lr"])}


def _entry(method: str, keys: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    present = {key: value for key, value in own.items() if value is not None}
    strange = present.keys() - keys.keys() - {STEP} - _WORKED_OUT.get(method, set())
    if strange:
        raise SpecError(
            f"this state holds {', '.join(sorted(strange))}, which {method} does not keep", code="other_method"
        )
    # SGD does not count steps; any number of them does, since its rule does not depend on it.
    taken = float(present.pop(STEP, 1.0 if present else 0.0))
    if taken == 0:
        return {}
    if method == "rprop" and "prev" in present:
        # The last gradient, of which the rule looks at the sign.
        present["prev"] = torch.sign(present["prev"])
    return {keys[key]: value for key, value in present.items() if key in keys} | {STEP: torch.tensor(taken)}
