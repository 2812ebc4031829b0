"""What torch.optim's own classes save, as our state of the same method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.kept_state import STEP

# What torch's group says about the rule itself, and for which methods it has to be true; absent counts as false.
_SWITCHES = {
    "nesterov": {"nesterov"},
    "amsgrad": {"amsgrad"},
    "dampening": set(),
    "decoupled_weight_decay": {"adamw"},
}


def from_torch(method: str, saved: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``saved``, the state_dict of torch's class for ``method``, in our words. ``defaults``: our hyperparameters.

    Raises SpecError where it is not that class's, or with switches that make it another method.
    """
    twin = OPTIMIZERS[method].torch
    if twin is None or twin.state is None:
        raise SpecError(
            f"this state does not say which method saved it, and torch has no {method}", code="other_method"
        )
    groups = [_group(method, group, defaults) for group in saved["param_groups"]]
    return {"state": {i: _entry(method, twin.state, own) for i, own in saved["state"].items()}, "param_groups": groups}


def _group(method: str, group: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for switch, methods in _SWITCHES.items():
        if switch in group and bool(group[switch]) != (method in methods):
            raise SpecError(
                f"this state was saved with {switch}={group[switch]!r}, which {method} is not", code="other_method"
            )
    kept = {
        key: value for key, value in group.items() if key in defaults or key in ("params", "param_names", "initial_lr")
    }
    return {**kept, "base_lr": group.get("initial_lr", group["lr"])}


def _entry(method: str, keys: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    present = {key: value for key, value in own.items() if value is not None}
    strange = present.keys() - keys.keys() - {STEP}
    if strange:
        raise SpecError(
            f"this state holds {', '.join(sorted(strange))}, which {method} does not keep", code="other_method"
        )
    # SGD does not count steps; any number of them does, since its rule does not depend on it.
    taken = float(present.pop(STEP, 1.0 if present else 0.0))
    if taken == 0:
        return {}
    return {keys[key]: value for key, value in present.items()} | {STEP: torch.tensor(taken)}
