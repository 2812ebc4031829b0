"""Catalogue name → optimizer. A test proves that this table and ``spec.optimizers.OPTIMIZERS`` have the same rows."""

from __future__ import annotations

from collections.abc import Callable

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import unknown_name
from optim_core.transforms.adam import adam, adamw, amsgrad, nadamw, radam
from optim_core.transforms.adaptive import adagrad, rmsprop
from optim_core.transforms.base import Rule, Transform, always, elementwise
from optim_core.transforms.momentum import momentum, nesterov, sgd
from optim_core.transforms.sign import lion

# name → (what it remembers per weight, the rule for one weight)
RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "sgd": ((), sgd),
    "momentum": (("buffer",), momentum),
    "nesterov": (("buffer",), nesterov),
    "adagrad": (("sum",), adagrad),
    "rmsprop": (("square",), rmsprop),
    "adam": (("mean", "square"), adam),
    "adamw": (("mean", "square"), adamw),
    "amsgrad": (("mean", "square", "highest"), amsgrad),
    "nadamw": (("mean", "square"), nadamw),
    "radam": (("mean", "square"), radam),
    "lion": (("mean",), lion),
}


def build_transform(name: str, decays: Callable[[str], bool] = always) -> Transform:
    """The optimizer ``name``; ``decays(weight name)`` says which weights feel weight decay. Raises SpecError."""
    if name not in RULES:
        raise SpecError(unknown_name("optimizer", name, OPTIMIZERS), code="unknown_optimizer")
    state_names, rule = RULES[name]
    return elementwise(state_names, rule, decays)
