"""The history of a study, as a stream that can be resumed.

Types and their data:

- ``study.state``: state; code and message when it failed
- ``stage``: stage, note
- ``unit.started``: unit, kind, rung, horizon, trials (how many), worker, attempt
- ``progress``: unit, step, horizon, trials_done, trials_planned, best
- ``unit.done``: unit, seconds, train_steps, engine
- ``unit.requeued``: unit, code, message
- ``trial.done``: number, optimizer, stage, state, rung, metric
- ``trial.excluded``: number, reason
- ``recommendation``: verdict, winner
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from optim_core.spec.states import STUDY_ENDED
from service.db import Database
from service.db.repositories import AccessRepository, StudyRepository
from service.operations.errors import study_not_found
from service.operations.views import Event

# id, type, data and at.
Happened = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class News:
    """What one who listens has not heard yet. ``ended``: nothing will follow these events."""

    events: list[Event]
    ended: bool


@dataclass(frozen=True)
class Head:
    """How far a study is. ``last``: the id of its last event; ``ended``: nothing will follow that."""

    last: int
    ended: bool


def news(db: Database, study_id: str, last_id: int, limit: int = 500) -> News:
    """``events_after``, and whether that was all. NotFound."""
    with db.read() as session:
        studies = StudyRepository(session)
        head = studies.head(study_id)
        if head is None:
            raise study_not_found(study_id)
        # What is added after the head was read is there at the next look; a study that has ended adds nothing.
        rows = studies.events_after(study_id, last_id, limit) if head[1] > last_id else ()
    return News(_events(rows), head[0] in STUDY_ENDED and len(rows) < limit)


def look(db: Database, known: Mapping[str, Head | None], limit: int) -> dict[str, tuple[Head, tuple[Event, ...]]]:
    """Of those studies that there are, how far they are, and the events since ``known``, at most ``limit`` of each; none where
    that is None.
    """
    found: dict[str, tuple[Head, tuple[Event, ...]]] = {}
    with db.read() as session:
        studies = StudyRepository(session)
        for study_id, state, last in studies.heads(known):
            ended, before = state in STUDY_ENDED, known[study_id]
            if before is None or last <= before.last:
                found[study_id] = Head(last, ended), ()
            else:
                events = _events(studies.events_after(study_id, before.last, limit))
                # What was read is what is known: more may have come since the head was read, or be left.
                if events:
                    found[study_id] = Head(events[-1].id, ended and events[-1].id >= last), tuple(events)
    return found


def opening_keys(db: Database, key_ids: Collection[str]) -> set[str]:
    """Those of the keys and sessions that still let somebody in."""
    with db.read() as session:
        return AccessRepository(session).valid_keys(key_ids)


def happened_after(db: Database, study_id: str, last_id: int, limit: int) -> Sequence[Happened]:
    """``events_after`` as plain rows: for who reads a hundred thousand of them."""
    with db.read() as session:
        studies = StudyRepository(session)
        rows = studies.events_after(study_id, last_id, limit)
        if not rows and studies.get(study_id) is None:
            raise study_not_found(study_id)
    return rows


def events_after(db: Database, study_id: str, last_id: int, limit: int = 500) -> list[Event]:
    """Events with an id above ``last_id``, oldest first; ids have no gaps. NotFound for an unknown study."""
    return _events(happened_after(db, study_id, last_id, limit))


def _events(rows: Iterable[Happened]) -> list[Event]:
    return [Event(id=row.id, type=row.type, data=row.data, at=row.at) for row in rows]
