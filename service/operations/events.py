"""The history of a study, as a stream that can be resumed.

Types and their data:

- ``study.state``: state; code and message when it failed
- ``stage``: stage, note
- ``unit.started``: unit, kind, rung, horizon, trials (how many), worker, attempt
- ``progress``: unit, step, horizon, trials_done, trials_planned, best
- ``unit.done``: unit, seconds, train_steps, engine
- ``unit.requeued``: unit, code, message
- ``trial.done``: number, optimizer, stage, state, rung, metric
- ``recommendation``: verdict, winner
"""

from __future__ import annotations

from service.db import Database
from service.db.repositories import StudyRepository
from service.operations.errors import study_not_found
from service.operations.views import Event


def events_after(db: Database, study_id: str, last_id: int, limit: int = 500) -> list[Event]:
    """Events with an id above ``last_id``, oldest first; ids have no gaps. NotFound for an unknown study."""
    with db.read() as session:
        studies = StudyRepository(session)
        rows = studies.events_after(study_id, last_id, limit)
        if not rows and studies.get(study_id) is None:
            raise study_not_found(study_id)
    return [Event(id=row.id, type=row.type, data=row.data, at=row.at) for row in rows]
