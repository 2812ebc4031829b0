"""The catalogue as data: optimizers, schedules, techniques."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, find_optimizer
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.techniques import TECHNIQUES
from service.operations.errors import NotFound

router = APIRouter(prefix="/v1", tags=["catalogue"])

Row = dict[str, Any]


def _optimizers() -> list[Row]:
    return [info.document() for info in OPTIMIZERS.values()]


def _schedules() -> list[Row]:
    return [{**asdict(info), "takes_warmup": info.takes_warmup} for info in SCHEDULES.values()]


def _techniques() -> list[Row]:
    return [asdict(info) for info in TECHNIQUES.values()]


@router.get("/catalogue")
def catalogue() -> dict[str, list[Row]]:
    """Optimizers, schedules and techniques in one document."""
    return {"optimizers": _optimizers(), "schedules": _schedules(), "techniques": _techniques()}


@router.get("/optimizers")
def optimizers() -> dict[str, list[Row]]:
    """Every optimizer: formula, hyperparameters with ranges, memory, when it wins, pitfalls, reference."""
    return {"items": _optimizers()}


@router.get("/optimizers/{name}")
def optimizer(name: str) -> Row:
    """One optimizer; also ``wrapper(base)``, such as ``lookahead(sgd)``."""
    try:
        return find_optimizer(name).document()
    except SpecError as error:
        raise NotFound("not_found", str(error)) from None


@router.get("/schedules")
def schedules() -> dict[str, list[Row]]:
    """Every learning-rate schedule: formula, parameters with ranges, when it wins, pitfalls."""
    return {"items": _schedules()}


@router.get("/techniques")
def techniques() -> dict[str, list[Row]]:
    """Every technique that goes with any optimizer: formula, range, what it acts on, when it wins, pitfalls."""
    return {"items": _techniques()}
