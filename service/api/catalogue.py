"""The catalogue: optimizers and schedules, as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from optim_core.spec.optimizers import OPTIMIZERS, OptimizerInfo
from optim_core.spec.problem import unknown_name
from optim_core.spec.schedules import SCHEDULES
from service.operations.errors import NotFound

router = APIRouter(prefix="/v1", tags=["catalogue"])


def _row(info: OptimizerInfo) -> dict[str, Any]:
    return {**asdict(info), "state_bytes_per_parameter": info.state_bytes_per_parameter}


@router.get("/optimizers")
def optimizers() -> dict[str, list[dict[str, Any]]]:
    """Every optimizer: formula, hyperparameters with ranges, memory, when it wins, pitfalls, reference."""
    return {"items": [_row(info) for info in OPTIMIZERS.values()]}


@router.get("/optimizers/{name}")
def optimizer(name: str) -> dict[str, Any]:
    """One optimizer."""
    if name not in OPTIMIZERS:
        raise NotFound("not_found", unknown_name("optimizer", name[:80], OPTIMIZERS).split(": ", 1)[-1])
    return _row(OPTIMIZERS[name])


@router.get("/schedules")
def schedules() -> dict[str, list[dict[str, Any]]]:
    """Every learning-rate schedule with its parameters."""
    return {"items": [asdict(info) for info in SCHEDULES.values()]}
