"""Studies, their events, recommendations and idempotency keys."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Insert,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from optim_core.spec.keys import canonical_json
from optim_core.spec.states import STUDY_ENDED, STUDY_TRANSITIONS, StudyState, UnitState, allowed_sources
from service.db.base import BigId, db_epoch
from service.db.models import Delivery, Event, IdempotencyKey, Project, StoredRecommendation, Study, Unit
from service.db.ownership import owner
from service.db.repositories.hooks import WAITING, HookRepository

ACTIVE = (StudyState.QUEUED, StudyState.RUNNING)
# Between two units of a study that is worked on lies at most so much planning; a longer gap is nobody's time.
PLANNING_S = 2.0
# Whoever waits for the check of a study's data has removed what is refused after so long.
REFUSED_S = 60.0
# Units that wait or run.
OPEN_UNITS = Unit.state.in_([UnitState.QUEUED, UnitState.LEASED])
_open_unit = select(Unit.id).where(Unit.study_id == Study.id, OPEN_UNITS)
# With facts that no planner has seen, or with nothing left to run.
WANTS_PLAN = or_(Study.result_seq > Study.planned_seq, ~_open_unit.exists())

# Nobody reads its data, or plans.
_FREE = or_(Study.check_until.is_(None), Study.check_until < db_epoch())


def uncovered(until: float | None, began: float | None, now: float) -> float:
    """Seconds by which a union of runs that ends at ``until`` grows, the oldest run that went on since then having begun at
    ``began``. The union spans short gaps: in them the study was planned on.
    """
    if began is None:
        return 0.0
    start = began if until is None else until if began <= until + PLANNING_S else began
    return max(0.0, now - start)


class StudyRepository:
    """Whoever writes to a study, its trials, units or events first takes ``lock``: one order of locks, no deadlocks."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def now(self) -> float:
        """Epoch seconds by the database's clock."""
        return self.session.execute(select(db_epoch())).scalar_one()

    def get(self, study_id: str) -> Study | None:
        return self.session.get(Study, study_id)

    def lock(self, study_id: str) -> Study | None:
        """The study, its row locked until the transaction ends. On SQLite the write transaction is the lock."""
        return self.session.execute(_locked(of_unit=False), {"id": study_id}).scalar_one_or_none()

    def lock_first(self, study_ids: Sequence[str]) -> Study | None:
        """As ``lock`` the one of these studies that nobody else has locked and who waits longest; the first of all that are
        locked, when it is free.
        """
        free = self.session.execute(_first_free(), {"ids": list(study_ids)}).scalar_one_or_none()
        return self.lock(study_ids[0]) if free is None else free

    def lock_of_unit(self, unit_id: int) -> Study | None:
        """As ``lock`` the study that a unit belongs to; None when either is gone."""
        return self.session.execute(_locked(of_unit=True), {"id": unit_id}).scalar_one_or_none()

    def add(self, study: Study) -> None:
        self.session.add(study)
        self.session.flush()

    def move(self, study: Study, target: StudyState, **values: Any) -> bool:
        """Change the state when the table of transitions allows it; False when it does not."""
        self.session.flush()
        sources = allowed_sources(STUDY_TRANSITIONS, target)
        changed = self.session.execute(
            update(Study)
            .where(Study.id == study.id, Study.state.in_(sources))
            .values(state=target.value, **values)
            .execution_options(synchronize_session=False)
        )
        self.session.refresh(study)
        moved = changed.rowcount == 1  # type: ignore[attr-defined]
        if moved and target in STUDY_ENDED:
            self._tell_of_end(study)
        return moved

    def _tell_of_end(self, study: Study) -> None:
        """Queue what the project's webhooks are to be told, in the transaction in which it becomes true.

        A study whose data are refused is removed by whoever waits for that, who never learned its id: it is told of later.
        """
        hooks = HookRepository(self.session)
        webhooks = hooks.of_project(study.project_id)
        now = self.now() if webhooks else 0.0
        first = now + (REFUSED_S if study.error_details else 0.0)
        for webhook in webhooks:
            error = None if study.error_code is None else {"code": study.error_code, "message": study.error_message}
            told = {"id": study.id, "name": study.name, "status": study.state, "verdict": study.verdict,
                    "winner": study.winner, "finished_at": study.finished_at, "error": error}  # fmt: skip
            hooks.add(
                Delivery(
                    id=secrets.token_hex(16), webhook_id=webhook.id, project_id=study.project_id, study_id=study.id,
                    state=WAITING, next_at=first,
                    body=canonical_json({"type": "study.ended", "study": told}), created_at=now,
                )
            )  # fmt: skip

    def page(
        self, status: str | None, model: str | None, find: str | None, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Study]:
        """Newest first, strictly after the position (created_at, id)."""
        query = select(Study).order_by(Study.created_at.desc(), Study.id.desc()).limit(limit)
        if status is not None:
            query = query.where(Study.state == status)
        if model is not None:
            query = query.where(Study.model == model)
        if find is not None:
            query = query.where(or_(Study.name == find, Study.id.startswith(find, autoescape=True)))
        if after is not None:
            query = query.where(tuple_(Study.created_at, Study.id) < tuple_(*after))
        return self.session.scalars(query).all()

    def active(self, study_id: str | None = None) -> Sequence[tuple[str, bool]]:
        """Active studies (or this one, if it is), by priority and age, and whether each waits for a planner; not while one is
        at it.
        """
        wanted = Study.state.in_(ACTIVE)
        query = (
            select(Study.id, and_(WANTS_PLAN, _FREE)).where(wanted).order_by(Study.priority.desc(), Study.created_at)
        )
        if study_id is not None:
            query = query.where(Study.id == study_id)
        return [(one, bool(waiting)) for one, waiting in self.session.execute(query)]

    def begin_plan(self, study_ids: Collection[str], lease_s: float) -> str | None:
        """Keep the first of these studies that waits for a planner, by priority and age, for one; None while others are at all
        of them. Nobody waits for another who does the same.
        """
        first = (
            select(Study.id)
            .where(Study.id.in_(study_ids), Study.state.in_(ACTIVE), WANTS_PLAN, _FREE)
            .order_by(Study.priority.desc(), Study.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        statement = update(Study).where(Study.id == first).values(check_until=db_epoch() + lease_s).returning(Study.id)
        return self.session.scalar(statement.execution_options(synchronize_session=False))

    def any_to_check(self, study_id: str | None) -> bool:
        """Whether a study (or this one) waits for somebody to check its data; takes no lock."""
        return self.session.scalar(self._to_check(study_id).with_only_columns(Study.id)) is not None

    def next_to_check(self, study_id: str | None, served: Collection[str] = ()) -> Study | None:
        """The oldest of them, if it can be of a project that is not ``served``, locked; one that another process takes this
        moment is passed over.
        """
        others_first = case((Study.project_id.in_(served), 1), else_=0)
        query = self._to_check(study_id).order_by(None).order_by(others_first, Study.created_at)
        query = query.with_for_update(skip_locked=True, key_share=True)
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def extend_check(self, study_id: str, attempt: int, lease_s: float) -> None:
        """Keep a study for whoever checks it."""
        self.session.execute(
            update(Study)
            .where(Study.id == study_id, Study.state == StudyState.CHECKING, Study.check_tries == attempt)
            .values(check_until=db_epoch() + lease_s)
            .execution_options(synchronize_session=False)
        )

    @staticmethod
    def _to_check(study_id: str | None) -> Select[Study]:
        query = select(Study).where(Study.state == StudyState.CHECKING, _FREE).order_by(Study.created_at).limit(1)
        return query if study_id is None else query.where(Study.id == study_id)

    def late(self) -> Sequence[str]:
        """Active studies that are past their deadline."""
        query = select(Study.id).where(Study.state.in_(ACTIVE), Study.deadline < db_epoch()).order_by(Study.deadline)
        return self.session.scalars(query).all()

    def under_device_quota(self) -> list[tuple[str, str]]:
        """(id, project_id) of active studies with units to train whose projects have a quota of device seconds."""
        query = select(Study.id, Study.project_id).join(Project, Project.id == Study.project_id)
        query = query.where(Project.max_device_s.is_not(None), Study.state.in_(ACTIVE), _open_unit.exists())
        return [(study_id, project_id) for study_id, project_id in self.session.execute(query)]

    def count_of_workers(self) -> int:
        """Studies that engine workers train, or will once their data were checked."""
        states = (StudyState.CHECKING, *ACTIVE)
        query = select(func.count()).select_from(Study).where(Study.state.in_(states), Study.external.is_(False))
        return self.session.execute(query).scalar_one()

    def run_times(self, study_ids: Iterable[str]) -> dict[str, tuple[float, float]]:
        """(elapsed, device) seconds per study, up to now: what ended units took, and the leased ones so far."""
        running = and_(Unit.study_id == Study.id, Unit.state == UnitState.LEASED)
        query = (
            select(
                Study.id, Study.elapsed_s, Study.device_s, Study.covered_until, db_epoch(),
                func.min(Unit.claimed_at), func.sum(db_epoch() - Unit.claimed_at),
            )
            .outerjoin(Unit, running)
            .where(Study.id.in_(list(study_ids)))
            .group_by(Study.id)
        )  # fmt: skip
        return {
            study_id: (elapsed + uncovered(until, began, now), device + max(0.0, running_s or 0.0))
            for study_id, elapsed, device, until, now, began, running_s in self.session.execute(query)
        }

    def add_run(self, study: Study, began: float, now: float) -> None:
        """A unit of the study has ended that began then: elapsed time is the union of all runs, device time their sum."""
        with self.session.no_autoflush:  # the study's row is written once, at the end
            others = self.session.scalar(_oldest_run(), {"id": study.id})
        study.elapsed_s += uncovered(study.covered_until, min(began, began if others is None else others), now)
        study.device_s += max(0.0, now - began)
        study.covered_until = now

    def delete(self, study: Study) -> None:
        """Remove the study and, by foreign keys, everything that belongs to it."""
        self.session.execute(delete(Study).where(Study.id == study.id).execution_options(synchronize_session=False))
        self.session.expunge(study)

    def add_event(self, study: Study, kind: str, data: dict[str, Any], at: float) -> None:
        """Append to the study's history. The caller holds ``lock``, which is what keeps ids without gaps."""
        self.add_events(study, [(kind, data)], at)

    def add_events(self, study: Study, told: Sequence[tuple[str, dict[str, Any]]], at: float) -> None:
        """The same for several at once."""
        rows = []
        for kind, data in told:
            study.event_seq += 1
            rows.append({"study_id": study.id, "id": study.event_seq, "type": kind, "data": data, "at": at})
        # The table's own statement: what SQLAlchemy does for objects besides takes longer.
        self.session.connection().execute(_new_events(), rows)

    def head(self, study_id: str) -> tuple[str, int] | None:
        """The state of a study and the id of its last event, without reading what was asked."""
        found = self.session.execute(select(Study.state, Study.event_seq).where(Study.id == study_id)).one_or_none()
        return None if found is None else (found.state, found.event_seq)

    def heads(self, study_ids: Iterable[str]) -> Sequence[tuple[str, str, int]]:
        """Of each study that there is: its id, its state, the id of its last event."""
        query = select(Study.id, Study.state, Study.event_seq).where(Study.id.in_(study_ids))
        return [(row.id, row.state, row.event_seq) for row in self.session.execute(query)]

    def events_after(self, study_id: str, last_id: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """id, type, data and at of events with a higher id, in order; plain rows, since a study may have a million."""
        query = select(Event.id, Event.type, Event.data, Event.at).where(Event.study_id == study_id, Event.id > last_id)
        return self.session.execute(query.order_by(Event.id).limit(limit)).all()

    def recommendation(self, study_id: str) -> dict[str, Any] | None:
        found = self.session.get(StoredRecommendation, study_id)
        return None if found is None else found.document

    def set_recommendation(self, study_id: str, document: dict[str, Any], at: float) -> None:
        """In the place of an older one, if there is any."""
        self.session.merge(StoredRecommendation(study_id=study_id, document=document, created_at=at))

    def idempotency_key(self, key: str) -> IdempotencyKey | None:
        return self.session.get(IdempotencyKey, (owner(self.session), key))

    def add_idempotency_key(self, key: str, request_hash: str, study_id: str, at: float) -> None:
        self.session.add(IdempotencyKey(key=key, request_hash=request_hash, study_id=study_id, created_at=at))
        self.session.flush()


# Asked with every unit: built once, since building such a statement takes as long as running it.


@cache
def _locked(*, of_unit: bool) -> Select[Study]:
    own = select(Unit.study_id).where(Unit.id == bindparam("id", type_=BigId)).scalar_subquery()
    return _for_writing(select(Study).where(Study.id == (own if of_unit else bindparam("id", type_=String))))


@cache
def _first_free() -> Select[Study]:
    wanted = Study.id.in_(bindparam("ids", expanding=True))
    return _for_writing(select(Study).where(wanted).order_by(Study.turn_at, Study.id).limit(1), skip_locked=True)


def _for_writing(query: Select[Study], *, skip_locked: bool = False) -> Select[Study]:
    locked = query.with_for_update(key_share=True, of=Study, skip_locked=skip_locked)
    return locked.execution_options(populate_existing=True)


@cache
def _oldest_run() -> Select[float | None]:
    running = (Unit.study_id == bindparam("id", type_=String), Unit.state == UnitState.LEASED)
    return select(func.min(Unit.claimed_at)).where(*running)


@cache
def _new_events() -> Insert:
    return insert(Event.__table__)  # type: ignore[arg-type]
