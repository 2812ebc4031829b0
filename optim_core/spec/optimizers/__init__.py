"""The catalogue of optimizers: what exists, its hyperparameters with range and reason, what it costs, when it wins.

Names of optimizers are the field's snake_case names; hyperparameters are named as in ``torch.optim``, betas one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from optim_core.spec.errors import SpecError
from optim_core.spec.names import unknown_name
from optim_core.spec.optimizers.adaptive import ADAPTIVE
from optim_core.spec.optimizers.averaging import AVERAGING
from optim_core.spec.optimizers.classics import CLASSICS
from optim_core.spec.optimizers.info import ALL_SCHEDULES, Hyperparameter, OptimizerInfo, Role
from optim_core.spec.optimizers.matrices import MATRICES
from optim_core.spec.optimizers.norms import NORMS
from optim_core.spec.optimizers.signs import SIGNS
from optim_core.spec.optimizers.whole import WHOLE
from optim_core.spec.optimizers.wrappers import DEFAULT_BASE, WRAPPERS

__all__ = [
    "ALL_SCHEDULES",
    "MAX_NAME",
    "OPTIMIZERS",
    "Hyperparameter",
    "OptimizerInfo",
    "Role",
    "find_optimizer",
    "list_optimizers",
    "unwrap",
]

_AROUND = re.compile(r"(\w+)\((.+)\)")
MAX_NAME = 80


def unwrap(name: str) -> tuple[str, str] | None:
    """("lookahead", "sgd") for ``lookahead(sgd)`` and ("lookahead", "adamw") for ``lookahead``; None for other names."""
    if name in WRAPPERS:
        return name, DEFAULT_BASE
    found = _AROUND.fullmatch(name) if len(name) <= MAX_NAME else None
    return (found[1], found[2]) if found and found[1] in WRAPPERS else None


class _Unfit(KeyError):
    """Both names are known, but the one cannot go around the other."""


class Catalogue(Mapping[str, OptimizerInfo]):
    """Rows by name. Iterating gives the plain names; looking up also understands ``wrapper(base)``."""

    def __init__(self, rows: tuple[OptimizerInfo, ...]) -> None:
        self._rows = {row.name: row for row in rows}
        self._wrapped = lru_cache(256)(self._wrap)
        for name in WRAPPERS:
            self._rows[name] = replace(self._wrap(name, DEFAULT_BASE), name=name)

    def __getitem__(self, name: str) -> OptimizerInfo:
        if name in self._rows:
            return self._rows[name]
        parts = unwrap(name) if isinstance(name, str) else None
        if parts is None:
            raise KeyError(name)
        return self._wrapped(*parts)

    def _wrap(self, wrapper: str, base: str) -> OptimizerInfo:
        try:
            return WRAPPERS[wrapper].around(self[base])
        except ValueError as error:
            raise _Unfit(str(error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


OPTIMIZERS = Catalogue((*CLASSICS, *ADAPTIVE, *SIGNS, *AVERAGING, *MATRICES, *NORMS, *WHOLE))


def list_optimizers() -> list[str]:
    """Names of all optimizers. Besides these, ``lookahead``, ``cautious`` and ``sam`` go around any other by gradients:
    ``lookahead(sgd)``.

        >>> "muon" in optim_core.list_optimizers()
        True
    """
    return list(OPTIMIZERS)


def find_optimizer(name: str) -> OptimizerInfo:
    """What is known of the optimizer ``name``, which may be ``wrapper(base)``: formula, hyperparameters with defaults, ranges
    and reasons, memory, source, when it wins and what to beware of.

        >>> row = optim_core.find_optimizer("lion")
        >>> row.defaults()["lr"], row.state_per_weight
        (0.001, 1)
        >>> [h.reason for h in row.hyperparameters if h.name == "beta2"]
        ['memory of the momentum']

    Raises SpecError ``unknown_optimizer``: which one may be meant, or why a wrapper cannot go around its base.
    """
    if not isinstance(name, str):
        raise SpecError(f"an optimizer is found by its name, not by {type(name).__name__}", code="unknown_optimizer")
    try:
        return OPTIMIZERS[name]
    except _Unfit as error:
        raise SpecError(str(error.args[0]), code="unknown_optimizer") from None
    except KeyError:
        parts = unwrap(name)
        known = OPTIMIZERS if parts is None else [f"{parts[0]}({base})" for base in OPTIMIZERS]
        raise SpecError(unknown_name("optimizer", name, known), code="unknown_optimizer") from None
