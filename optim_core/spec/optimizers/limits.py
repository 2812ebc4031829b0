"""How many weights a method can bear. A module of its own, so that checking a study loads none of the methods."""

from __future__ import annotations

from collections.abc import Iterable

from optim_core.spec.errors import SpecError

# SLSQP keeps about 10·n² numbers and takes n³ operations a step.
LARGEST = {"slsqp": 1000}


def check_size(names: Iterable[str], weights: int, pointer: str = "") -> None:
    """Raise SpecError ``model_too_large`` at ``pointer`` when one of the methods ``names`` cannot take so many weights."""
    for name in names:
        if weights > LARGEST.get(name, weights):
            message = f"{name} takes at most {LARGEST[name]:,} weights, this model has {weights:,}; use lbfgs"
            raise SpecError(message, code="model_too_large", pointer=pointer)
