"""Hyperparameters as people give them to ``build_optimizer``: by the catalogue's names or by torch's, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from optim_core.minimizers.named_optimizer import what_it_is
from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name
from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter, find_optimizer
from optim_core.spec.techniques import TECHNIQUES

_PLAIN = {float, int, bool}
Values = dict[str, float | bool]
BETAS = ("beta1", "beta2", "beta3")


def betas_of(name: str) -> tuple[str, ...]:
    """The names of the betas of method ``name``, in the order of torch's ``betas``."""
    return tuple(key for key in BETAS if key in OPTIMIZERS[name].defaults())


def kept_betas(name: str) -> tuple[str, ...]:
    """The betas that stand in param groups as torch's ``betas``, where its schedulers cycle the first of them.

    None where the method has a momentum besides (Muon): that is what is to be cycled.
    """
    return () if "momentum" in OPTIMIZERS[name].defaults() else betas_of(name)


def never_read(defaults: Mapping[str, Any]) -> frozenset[str]:
    """What may be taken for an entry of a param group of this optimizer, and is none: hyperparameters of other methods,
    techniques that it was built without, betas in the other spelling.
    """
    every = {hyper.name for row in OPTIMIZERS.values() for hyper in row.hyperparameters}
    return frozenset({*every, *TECHNIQUES, "betas", *BETAS} - defaults.keys())


def why_never_read(name: str, keys: Iterable[str]) -> str:
    """What to tell a person who has set ``keys`` in a param group, where nothing reads them."""
    keys = sorted(keys)
    kept, own = kept_betas(name), betas_of(name)
    hint = ""
    if kept and set(keys) <= {*BETAS}:
        hint = f": they stand together, as group['betas'] = ({', '.join(kept)})"
    elif own and not kept and keys == ["betas"]:
        hint = f": they stand one by one, as group['{own[0]}'] and so on"
    elif set(keys) <= TECHNIQUES.keys():
        hint = ": a technique is there from the start, build_optimizer(..., techniques={...})"
    return f"{name}: a param group holds {', '.join(keys)}, which nothing reads{hint}"


def number(value: Any) -> Any:
    """A tensor or a NumPy array of one number as a plain number; everything else as it is."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor | np.generic | np.ndarray) and math.prod(value.shape) == 1:
        return value.item()
    return value


def one_by_one(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with plain numbers and without torch's ``betas``. Raises SpecError where they do not fit the method."""
    found = {key: number(value) for key, value in given.items() if key != "betas"}
    names = betas_of(name)
    if "betas" not in given or not names:
        return {**found, **{key: given[key] for key in ("betas",) if key in given}}
    betas = given["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != len(names) or set(names) & set(found):
        raise SpecError(f"{name}: betas are {', '.join(names)}, given together or one by one", code="wrong_type")
    return {**found, **dict(zip(names, map(number, betas), strict=True))}


def complete_values(name: str, given: Mapping[str, Any]) -> Values:
    """Every hyperparameter of the method: those given, and the catalogue's defaults for the rest.

    Raises SpecError for an unknown name and for a value that no run can use.
    """
    row = find_optimizer(name)
    known, plain = row.defaults(), one_by_one(name, given)
    for key in plain:
        if key not in known:
            raise SpecError(
                f"{name}: {unknown_name('hyperparameter', key, known)}{what_it_is(name, key)}", code="unknown_field"
            )
    values = {**known, **plain}
    for hyper in row.hyperparameters:
        _check(name, hyper, values[hyper.name])
    return values


def group_values(name: str, group: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A param group as the optimizer keeps it: numbers plain, betas together. ``defaults``: the values of other groups.

    Raises SpecError for a value that no run can use; keys that are no hyperparameters stay.
    """
    known = (*OPTIMIZERS[name].defaults(), "betas")
    own = one_by_one(name, group)
    usual = one_by_one(name, {key: value for key, value in defaults.items() if key in known})
    complete_values(name, {**usual, **{key: value for key, value in own.items() if key in known}})
    kept = kept_betas(name)
    betas = {"betas": tuple(own.pop(key, usual[key]) for key in kept)} if kept else {}
    return {**own, **betas}


def _check(name: str, hyper: Hyperparameter, value: Any) -> None:
    """Refuse what torch's own optimizers refuse, and what a rule cannot work with: a division by zero, a walk uphill."""
    if not isinstance(value, int | float) or (isinstance(value, bool) and hyper.sample_as != "flag"):
        raise SpecError(f"{name}: {hyper.name} must be a number", code="wrong_type")
    allowed, fits = _range(hyper, value)
    if not fits:
        raise SpecError(f"{name}: {hyper.name} must be {allowed}, not {value!r}", code="number_out_of_range")


def _range(hyper: Hyperparameter, value: float) -> tuple[str, bool]:
    """What is allowed, in words, and whether ``value`` is."""
    if hyper.sample_as == "flag":
        return "true or false", value in (0, 1)
    if hyper.whole:
        least = max(0.0, min(1.0, hyper.low))
        words = "a whole number" + (" from 1" if least else "")
        return words, math.isfinite(value) and value == int(value) and value >= least
    if hyper.sample_as == "one_minus":
        words = "between 0 and 1" if hyper.positive else "in [0, 1)"
        return words, 0 <= value < 1 and (value > 0 or not hyper.positive)
    if hyper.most is not None:
        return f"in [0, {hyper.most:g}]", 0 <= value <= hyper.most
    words = "finite and above 0" if hyper.positive else "finite and not negative"
    return words, math.isfinite(value) and value >= 0 and (value > 0 or not hyper.positive)
