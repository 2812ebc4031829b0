"""Catalogue name → optimizer. A test proves that this table and ``spec.optimizers.OPTIMIZERS`` have the same rows."""

from __future__ import annotations

from collections.abc import Callable

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import unknown_name
from optim_core.transforms.adam import (
    adam,
    adamw,
    amsgrad,
    coupled_numbers,
    decoupled_numbers,
    nadamw,
    radam,
    radam_numbers,
)
from optim_core.transforms.adaptive import adagrad, adagrad_numbers, rmsprop, rmsprop_numbers
from optim_core.transforms.base import Numbers, Rule, Transform, always, elementwise
from optim_core.transforms.momentum import momentum, nesterov, sgd, sgd_numbers
from optim_core.transforms.sign import lion, lion_numbers

# name → (what it remembers per weight, the numbers of a step, the rule for one weight)
RULES: dict[str, tuple[tuple[str, ...], Numbers, Rule]] = {
    "sgd": ((), sgd_numbers, sgd),
    "momentum": (("buffer",), sgd_numbers, momentum),
    "nesterov": (("buffer",), sgd_numbers, nesterov),
    "adagrad": (("sum",), adagrad_numbers, adagrad),
    "rmsprop": (("square",), rmsprop_numbers, rmsprop),
    "adam": (("mean", "square"), coupled_numbers, adam),
    "adamw": (("mean", "square"), decoupled_numbers, adamw),
    "amsgrad": (("mean", "square", "highest"), coupled_numbers, amsgrad),
    "nadamw": (("mean", "square"), decoupled_numbers, nadamw),
    "radam": (("mean", "square"), radam_numbers, radam),
    "lion": (("mean",), lion_numbers, lion),
}


def build_transform(name: str, decays: Callable[[str], bool] = always) -> Transform:
    """The optimizer ``name``; ``decays(weight name)`` says which weights feel weight decay. Raises SpecError."""
    if name not in RULES:
        raise SpecError(unknown_name("optimizer", name, OPTIMIZERS), code="unknown_optimizer")
    state_names, numbers, rule = RULES[name]
    return elementwise(state_names, numbers, rule, decays)
