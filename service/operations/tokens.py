"""The token that a client holds: unit and fence. So what it says late or twice is never taken for another run of its trial."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from sqlalchemy import Row

from optim_core.spec.states import UnitState
from service.db.models import Unit
from service.operations import results
from service.operations.errors import NotFound

_FORM = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})")


def token_of(unit: Unit) -> str:
    """What whoever has leased the unit is given."""
    return f"{unit.id}.{unit.fence}"


def read_token(token: str) -> tuple[int, int] | None:
    """(id of the unit, fence); None for what no token looks like."""
    found = _FORM.fullmatch(token)
    return None if found is None else (int(found[1]), int(found[2]))


Found = TypeVar("Found", Unit, Row[Any])


def check_trial(unit: Found | None, study_id: str, number: int) -> Found:
    """The unit that a token names. NotFound unless it is there, and of this trial of this study."""
    if unit is None or unit.study_id != study_id or number not in results.numbers_of(unit):
        raise NotFound("trial_not_asked", f"no trial {number} of study {study_id} was given out with this token")
    return unit


def why_lost(unit: Unit | Row[Any]) -> str:
    """Why a client no longer has the unit."""
    if unit.state == UnitState.CANCELLED:
        return "cancelled"
    if unit.state in (UnitState.DONE, UnitState.FAILED):
        return "trial_finished"
    return "lease_lost"


def client_key(study_id: str, client_id: str) -> str:
    """Under which a client is known among the workers."""
    return f"{study_id}:{client_id}"
