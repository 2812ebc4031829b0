"""Device seconds of projects in the last hour, by which workers choose for whom to work next.

What ended is added to one row for each project and five minutes; what runs is read from the leases. So a claim writes nothing
here, and claims of one project never wait for each other.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Subquery, case, delete, func, select, union_all
from sqlalchemy.orm import Session

from optim_core.spec.states import UnitState
from service.db.base import db_epoch
from service.db.models import DeviceUse, Study, Unit
from service.db.repositories.upsert import Upsert

WINDOW_S, BUCKET_S = 3600.0, 300
# What a lease counts for from its first moment on: workers that claim in the same second choose different projects.
LEASE_S = 1.0


_SLICES = Upsert(DeviceUse, ("project_id", "bucket"), lambda stored, new: {"seconds": stored.seconds + new.seconds})
# Slices that began in the last hour.
_RECENT = DeviceUse.bucket * BUCKET_S > db_epoch() - WINDOW_S


def within_window(seconds: ColumnElement[float]) -> ColumnElement[float]:
    """``seconds`` up to now, as far as they lie in the last hour."""
    return case((seconds > WINDOW_S, WINDOW_S), (seconds < 0.0, 0.0), else_=seconds)


def recent_use() -> Subquery:
    """(project_id, seconds) of each project that had a worker in the last hour, up to five minutes less of it."""
    ended = select(DeviceUse.project_id, DeviceUse.seconds).where(_RECENT)
    runs = (
        select(Study.project_id, (within_window(db_epoch() - Unit.leased_at) + LEASE_S).label("seconds"))
        .join(Study, Study.id == Unit.study_id)
        .where(Unit.state == UnitState.LEASED, Study.external.is_(False))
    )
    both = union_all(ended, runs).subquery()
    return select(both.c.project_id, func.sum(both.c.seconds).label("seconds")).group_by(both.c.project_id).subquery()


class UseRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, study: Study, leased_at: float | None, now: float) -> None:
        """Count what one of the study's units had of a worker. Clients of a person's own loop have devices of their own.

        The row is the project's: whoever calls this does so last, so that it is locked until the commit and no longer.
        """
        if leased_at is None or study.external:
            return
        seconds = min(max(0.0, now - leased_at), WINDOW_S)
        row = {"project_id": study.project_id, "bucket": int(now // BUCKET_S), "seconds": seconds}
        self.session.flush()
        _SLICES.run(self.session, [row])

    def forget_old(self) -> None:
        """Remove what lies before the last hour."""
        self.session.execute(delete(DeviceUse).where(~_RECENT).execution_options(synchronize_session=False))
