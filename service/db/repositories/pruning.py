"""Removes what studies left behind a bounded number of rows at a time, so that no statement takes long."""

from __future__ import annotations

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from optim_core.spec.states import STUDY_ENDED
from service.db.models import Curve, Event, Study, Unit


class PruneRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def oldest_ended(self, before: float) -> str | None:
        """The study that ended first, before then."""
        query = select(Study.id).where(Study.state.in_(STUDY_ENDED), Study.finished_at < before)
        return self.session.scalar(query.order_by(Study.finished_at).limit(1))

    def drop_curves(self, study_id: str, limit: int) -> int:
        """Remove curves of the study's units; how many."""
        units = select(Unit.id).where(Unit.study_id == study_id)
        some = select(Curve.unit_id, Curve.number).where(Curve.unit_id.in_(units)).limit(limit)
        return self._drop(delete(Curve).where(tuple_(Curve.unit_id, Curve.number).in_(some)))

    def drop_events(self, study_id: str, limit: int) -> int:
        """Remove events of the study; how many."""
        some = select(Event.study_id, Event.id).where(Event.study_id == study_id).limit(limit)
        return self._drop(delete(Event).where(tuple_(Event.study_id, Event.id).in_(some)))

    def _drop(self, statement) -> int:
        done = self.session.execute(statement.execution_options(synchronize_session=False))
        return done.rowcount  # type: ignore[attr-defined]
