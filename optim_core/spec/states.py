"""States of studies, trials and units, and the only changes of state that are legal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class StudyState(StrEnum):
    CHECKING = "checking"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"


class TrialState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class UnitState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S, _T, _U = StudyState, TrialState, UnitState

STUDY_TRANSITIONS: Mapping[StudyState, frozenset[StudyState]] = {
    _S.CHECKING: frozenset({_S.QUEUED, _S.CANCELLED, _S.FAILED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.PAUSED, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.CANCELLED, _S.COMPLETED, _S.FAILED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.RUNNING, _S.CANCELLED}),
    _S.CANCELLED: frozenset(),
    # A trial was excluded: the study is answered anew.
    _S.COMPLETED: frozenset({_S.RUNNING}),
    _S.FAILED: frozenset({_S.QUEUED, _S.CHECKING}),
}
# A trial leaves a terminal state only upwards: a promotion sends a completed trial to its next rung.
TRIAL_TRANSITIONS: Mapping[TrialState, frozenset[TrialState]] = {
    # A promoted trial that is not run after all keeps the result of its lower rung.
    _T.WAITING: frozenset({_T.RUNNING, _T.COMPLETED, _T.CANCELLED, _T.FAILED}),
    _T.RUNNING: frozenset({_T.WAITING, _T.COMPLETED, _T.PRUNED, _T.DIVERGED, _T.FAILED, _T.CANCELLED}),
    _T.COMPLETED: frozenset({_T.WAITING, _T.PRUNED}),
    _T.PRUNED: frozenset(),
    _T.DIVERGED: frozenset(),
    _T.FAILED: frozenset(),
    _T.CANCELLED: frozenset(),
}
UNIT_TRANSITIONS: Mapping[UnitState, frozenset[UnitState]] = {
    _U.QUEUED: frozenset({_U.LEASED, _U.CANCELLED}),
    _U.LEASED: frozenset({_U.QUEUED, _U.DONE, _U.FAILED, _U.CANCELLED}),
    _U.DONE: frozenset(),
    _U.FAILED: frozenset({_U.QUEUED}),
    _U.CANCELLED: frozenset(),
}

STUDY_ENDED = frozenset({_S.CANCELLED, _S.COMPLETED, _S.FAILED})
TRIAL_ENDED = frozenset({_T.COMPLETED, _T.PRUNED, _T.DIVERGED, _T.FAILED, _T.CANCELLED})
UNIT_ENDED = frozenset({_U.DONE, _U.FAILED, _U.CANCELLED})

State = TypeVar("State", StudyState, TrialState, UnitState)


def allowed_sources(table: Mapping[State, frozenset[State]], target: State) -> frozenset[State]:
    """All states from which ``target`` may be reached in one step (what an UPDATE's WHERE clause needs)."""
    return frozenset(source for source, targets in table.items() if target in targets)
