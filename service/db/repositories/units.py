"""The queue: units of work under a lease with a fencing token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Executable,
    Row,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from optim_core.spec.states import UNIT_TRANSITIONS, UnitState, allowed_sources
from service.db.base import BigId, db_epoch
from service.db.models import Study, Unit, Worker
from service.db.repositories.studies import ACTIVE, OPEN_UNITS, WANTS_PLAN
from service.db.repositories.upsert import Upsert
from service.db.repositories.use import LEASE_S, recent_use

# Workers that claim in the same moment take units of so many studies; of one they would wait for each other.
AT_ONCE = 8
# Seconds that a unit which is not done took so far.
TAKEN_S = case((Unit.state == UnitState.LEASED, db_epoch() - Unit.claimed_at), else_=Unit.spent_s)


class UnitRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, unit_id: int) -> Unit | None:
        return self.session.get(Unit, unit_id, populate_existing=True)

    def get_now(self, unit_id: int) -> tuple[Unit, float] | None:
        """A unit, and what time it is by the database's clock."""
        found = self.session.execute(_unit_now(), {"unit": unit_id}).one_or_none()
        return None if found is None else (found[0], found[1])

    def named(self, unit_id: int) -> Row[Any] | None:
        """Of a unit what a client's token is checked against, and as ``study_state`` whether its study goes on."""
        found: Any = self.session.execute(_named(), {"unit": unit_id}).one_or_none()
        return found

    def lock_named(self, unit_ids: Iterable[int], *, wait: bool) -> dict[int, Row[Any]]:
        """As ``named`` those of these units that there are, by id, locked until the transaction ends; ``now``: what time it is
        by the database's clock. Without ``wait`` not those that another transaction has locked.
        """
        return {row.id: row for row in self.session.execute(_lock_named(wait), {"units": sorted(unit_ids)})}

    def come_to(self, steps: dict[int, int], lease_until: float) -> None:
        """Note the step that each of these units, which the caller has locked, came to, and extend their leases."""
        rows = [{"unit": unit, "came_to": step, "until": lease_until} for unit, step in sorted(steps.items())]
        self.session.connection().execute(_come_to(), rows)

    def see_clients(self, clients: dict[str, str], now: float) -> None:
        """Note that clients live: their ids among the workers, and the studies that they train."""
        rows = [
            {"id": key, "device": None, "study_id": study_id, "first_seen": now, "last_seen": now}
            for key, study_id in sorted(clients.items())
        ]
        _SEEN.run(self.session, rows)

    def states(self, study_id: str) -> Sequence[tuple[int, str]]:
        """(id, state) of the study's units, in the order in which they were queued."""
        query = select(Unit.id, Unit.state).where(Unit.study_id == study_id).order_by(Unit.id)
        return [(unit_id, state) for unit_id, state in self.session.execute(query)]

    def some(self, unit_ids: Iterable[int]) -> Sequence[Unit]:
        """The units with these ids."""
        return self.session.scalars(select(Unit).where(Unit.id.in_(list(unit_ids))).order_by(Unit.id)).all()

    def known_keys(self, study_id: str, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that the study has already."""
        query = select(Unit.key).where(Unit.study_id == study_id, Unit.key.in_(list(keys)))
        return set(self.session.scalars(query))

    def add(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self.session.execute(insert(Unit), rows)

    def studies_with_work(self, study_id: str | None) -> list[str]:
        """Studies of engines that have a queued unit and whose turn it is, who waits longest first: of the project that had the
        fewest device seconds in the last hour, of the highest priority there. Takes no lock.
        """
        if study_id is not None:
            return list(self.session.scalars(_with_work().where(Study.id == study_id)))
        rows = self.session.execute(_whose_turn()).all()
        return [row.id for row in rows if (row.project_id, row.priority) == (rows[0].project_id, rows[0].priority)]

    def others_wait(self, study_id: str) -> bool:
        """Whether another study has a unit that an engine could claim, or none yet because it has not been planned: one of the
        same project, of no lower priority, or one of a project that had fewer device seconds. ``study_id``: of a leased unit.
        """
        row = self.session.execute(select(Study.project_id, Study.priority).where(Study.id == study_id)).one_or_none()
        if row is None:
            return False
        use = recent_use()
        used = {project: float(seconds) for project, seconds in self.session.execute(select(use))}
        # Given back, the unit is no lease any more.
        own = used.get(row.project_id, LEASE_S) - LEASE_S
        ahead = or_(
            and_(Study.project_id == row.project_id, Study.priority >= row.priority),
            and_(Study.project_id != row.project_id, Study.project_id.not_in([p for p, s in used.items() if s >= own])),
        )
        planless = select(Study.id).where(Study.state.in_(ACTIVE), Study.external.is_(False), WANTS_PLAN)
        for query in (_with_work(), planless):
            if self.session.scalar(query.where(Study.id != study_id, ahead).limit(1)) is not None:
                return True
        return False

    def claim(
        self, study_id: str, worker_id: str, lease_s: float, *, last: bool = False, instance: str | None = None
    ) -> Unit | None:
        """Lease the study's oldest queued unit (or its ``last``) in one statement, with a new fence; None when none waits.
        ``leased_at`` says when that was.
        """
        asked = {"study": study_id, "worker": worker_id, "client": instance, "lease_s": lease_s}
        return self.session.execute(_lease_first(last), asked).scalar_one_or_none()

    def take_over(self, unit_id: int, token: int, worker_id: str, lease_s: float) -> Unit | None:
        """Lease to another worker what is leased under ``token``, with a new fence; None when it no longer is."""
        held = and_(Unit.id == unit_id, Unit.fence == token, Unit.state == UnitState.LEASED)
        asked = {"worker": worker_id, "client": None, "lease_s": lease_s}
        return self.session.execute(_lease(held), asked).scalar_one_or_none()

    def long_leased(self, held_s: float, worker_id: str, study_id: str | None) -> Sequence[Any]:
        """Units of engines (of this study) that other workers hold for so long or longer, and for how long, in the first
        attempt since their checkpoint.
        """
        query = _long_leased(study_id is not None)
        return self.session.execute(query, {"least": held_s, "worker": worker_id, "study": study_id}).all()

    def latest_done(self, study_id: str, kinds: Sequence[str], rung: int | None, count: int) -> Sequence[Any]:
        """What the units of these kinds (and this rung) trained and when, of those that are done, queued last first."""
        columns = (Unit.kind, Unit.rung, Unit.horizon, Unit.spec, Unit.claimed_at, Unit.finished_at)
        query = select(*columns).where(Unit.study_id == study_id, Unit.state == UnitState.DONE, Unit.kind.in_(kinds))
        query = query if rung is None else query.where(Unit.rung == rung)
        return self.session.execute(query.order_by(Unit.id.desc()).limit(count)).all()

    def held(self, unit_id: int, token: int, **values: Any) -> bool:
        """Write ``values`` to a unit that is leased under ``token``; False, and nothing written, when it is not."""
        there = {key: value for key, value in values.items() if isinstance(value, ColumnElement)}
        given = {key: value for key, value in values.items() if key not in there}
        asked = {"unit": unit_id, "token": token, **{f"new_{key}": value for key, value in given.items()}}
        statement = _held(tuple(given))
        changed = self.session.execute(statement.values(**there) if there else statement, asked)
        return changed.rowcount == 1  # type: ignore[attr-defined]

    def end_lease(self, unit_id: int, token: int, target: UnitState, **values: Any) -> bool:
        """Leave the lease for ``target`` if ``token`` still holds it: the fence that every commit passes."""
        if target not in UNIT_TRANSITIONS[UnitState.LEASED]:
            raise ValueError(f"a leased unit cannot become {target}")
        return self.held(unit_id, token, state=target.value, lease_until=None, **values)

    def extend(self, unit_id: int, token: int, lease_s: float) -> bool:
        return self.held(unit_id, token, lease_until=db_epoch() + lease_s)

    def expired(self) -> Sequence[Unit]:
        """Leased units whose lease has run out; takes no lock, ``end_lease`` decides."""
        query = select(Unit).where(Unit.state == UnitState.LEASED, Unit.lease_until < db_epoch()).order_by(Unit.id)
        return self.session.scalars(query).all()

    def all_leased_by(self, worker_id: str) -> Sequence[Unit]:
        """What a worker holds."""
        query = select(Unit).where(Unit.state == UnitState.LEASED, Unit.worker_id == worker_id).order_by(Unit.id)
        return self.session.scalars(query).all()

    def move_all(self, study_id: str, sources: Sequence[UnitState], target: UnitState, **values: Any) -> int:
        """Change the state of the study's units in ``sources``; how many did."""
        legal = [source for source in sources if source in allowed_sources(UNIT_TRANSITIONS, target)]
        changed = self.session.execute(
            update(Unit)
            .where(Unit.study_id == study_id, Unit.state.in_(legal))
            .values(state=target.value, **values)
            .execution_options(synchronize_session=False)
        )
        return changed.rowcount  # type: ignore[attr-defined]

    def cancel_all(self, study_id: str) -> None:
        """Cancel what waits or runs."""
        self._cancel(and_(Unit.study_id == study_id, OPEN_UNITS))

    def _cancel(self, which: ColumnElement[bool]) -> None:
        # What a unit took until now was used all the same.
        self.session.execute(
            update(Unit)
            .where(which)
            .values(state=UnitState.CANCELLED.value, lease_until=None, spent_s=TAKEN_S)
            .execution_options(synchronize_session=False)
        )

    def cancel_search(self, study_id: str) -> list[int]:
        """Cancel what waits or runs of search, screening, second looks and what stands beside the answer; the ids."""
        more = (Unit.kind.in_(["train", "screen", "reference"])) | ((Unit.kind == "confirm") & (Unit.rung > 0))
        query = select(Unit.id).where(Unit.study_id == study_id, OPEN_UNITS, more)
        found = list(self.session.scalars(query))
        self._cancel(Unit.id.in_(found))
        return found

    def count(self, study_id: str, state: UnitState) -> int:
        query = select(func.count()).select_from(Unit).where(Unit.study_id == study_id, Unit.state == state)
        return self.session.execute(query).scalar_one()

    def queue_depth(self) -> tuple[int, int, float | None]:
        """(units that an engine could claim, leased units, seconds that the oldest claimable one has waited)."""
        claimable = (
            select(func.count(), db_epoch() - func.min(Unit.created_at))
            .select_from(Unit)
            .join(Study, Study.id == Unit.study_id)
            .where(Unit.state == UnitState.QUEUED, Study.state.in_(ACTIVE), Study.external.is_(False))
        )
        queued, waited = self.session.execute(claimable).one()
        leased = select(func.count()).select_from(Unit).where(Unit.state == UnitState.LEASED)
        return queued, self.session.execute(leased).scalar_one(), waited

    def see_worker(self, worker_id: str, device: str | None = None) -> None:
        """Note that a worker lives, and what it trains on."""
        changed = self.session.execute(_seen(), {"worker": worker_id, "on": device})
        if changed.rowcount == 0:  # type: ignore[attr-defined]
            now = db_epoch()
            self.session.add(Worker(id=worker_id, device=device, first_seen=now, last_seen=now))

    def last_seen(self, worker_id: str) -> float | None:
        """When a worker was last heard of; None for one that was not."""
        return self.session.scalar(select(Worker.last_seen).where(Worker.id == worker_id))

    def forget_worker(self, worker_id: str) -> None:
        """A worker that has ended in order."""
        self.session.execute(delete(Worker).where(Worker.id == worker_id))

    def workers(self, since: float, study_id: str | None = None) -> Sequence[Worker]:
        """Engine workers, or clients of one study, heard of since then, newest first."""
        whose = Worker.study_id.is_(None) if study_id is None else Worker.study_id == study_id
        return self.session.scalars(
            select(Worker).where(Worker.last_seen >= since, whose).order_by(Worker.last_seen.desc(), Worker.id)
        ).all()

    def leased_by(self, study_id: str, worker_id: str) -> Unit | None:
        """The oldest unit of the study that this worker holds."""
        query = select(Unit).where(
            Unit.study_id == study_id, Unit.state == UnitState.LEASED, Unit.worker_id == worker_id
        )
        return self.session.scalars(query.order_by(Unit.id).limit(1)).one_or_none()

    def leased(self, study_id: str) -> Sequence[Unit]:
        """The study's units that somebody holds."""
        query = select(Unit).where(Unit.study_id == study_id, Unit.state == UnitState.LEASED)
        return self.session.scalars(query.order_by(Unit.id)).all()

    def any_queued(self, study_id: str) -> bool:
        """Whether a unit of the study waits."""
        query = select(Unit.id).where(Unit.study_id == study_id, Unit.state == UnitState.QUEUED)
        return self.session.scalar(query.limit(1)) is not None


# Asked with every claim or report: built once, since building such a statement takes as long as running it.


@cache
def _named_columns() -> Select[*tuple[Any, ...]]:
    columns = (Unit.id, Unit.study_id, Unit.spec, Unit.state, Unit.fence, Unit.worker_id, Unit.horizon, Unit.step)
    return select(*columns, Study.state.label("study_state")).join(Study, Study.id == Unit.study_id)


@cache
def _named() -> Executable:
    return _named_columns().where(Unit.id == bindparam("unit", type_=BigId))


@cache
def _lock_named(wait: bool) -> Executable:
    wanted = Unit.id.in_(bindparam("units", type_=BigId, expanding=True))
    query = _named_columns().add_columns(db_epoch().label("now")).where(wanted).order_by(Unit.id)
    return query.with_for_update(of=Unit, key_share=True, skip_locked=not wait)


@cache
def _unit_now() -> Select[*tuple[Any, ...]]:
    wanted = Unit.id == bindparam("unit", type_=BigId)
    return select(Unit, db_epoch()).where(wanted).execution_options(populate_existing=True)


@cache
def _lease_first(last: bool) -> Executable:
    first = (
        select(Unit.id)
        .where(Unit.study_id == bindparam("study", type_=String), Unit.state == UnitState.QUEUED)
        .order_by(Unit.id.desc() if last else Unit.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return _lease(and_(Unit.id == first, Unit.state == UnitState.QUEUED))


def _lease(which: ColumnElement[bool]) -> Executable:
    """Lease it to ``worker`` (in the process ``client``) for ``lease_s``, under a new fence."""
    return (
        update(Unit)
        .where(which)
        .values(
            state=UnitState.LEASED.value,
            worker_id=bindparam("worker"),
            instance=bindparam("client"),
            fence=Unit.fence + 1,
            attempts=Unit.attempts + 1,
            claimed_at=db_epoch() - Unit.spent_s,
            leased_at=db_epoch(),
            lease_until=db_epoch() + bindparam("lease_s", type_=Double),
            step=0,
        )
        .returning(Unit)
        .execution_options(synchronize_session=False, populate_existing=True)
    )


@cache
def _held(keys: tuple[str, ...]) -> Update:
    """Write ``new_KEY`` for each of ``keys`` to a leased unit."""
    leased = (
        Unit.id == bindparam("unit", type_=BigId),
        Unit.fence == bindparam("token"),
        Unit.state == UnitState.LEASED,
    )
    statement = update(Unit).where(*leased).values({key: bindparam(f"new_{key}") for key in keys})
    return statement.execution_options(synchronize_session=False)


# Of rows that are locked and were checked. The table's own statement: what SQLAlchemy does for objects besides takes longer.
@cache
def _come_to() -> Update:
    table: Any = Unit.__table__
    wanted = table.c.id == bindparam("unit", type_=BigId)
    return update(table).where(wanted).values(step=bindparam("came_to"), lease_until=bindparam("until"))


_SEEN = Upsert(Worker, ("id",), lambda stored, new: {"last_seen": new["last_seen"]})


@cache
def _seen() -> Update:
    return (
        update(Worker)
        .where(Worker.id == bindparam("worker", type_=String))
        .values(last_seen=db_epoch(), device=func.coalesce(bindparam("on", type_=String), Worker.device))
        .execution_options(synchronize_session=False)
    )


@cache
def _with_work() -> Select[str]:
    waits = select(Unit.id).where(Unit.study_id == Study.id, Unit.state == UnitState.QUEUED)
    return select(Study.id).where(Study.state.in_(ACTIVE), Study.external.is_(False), waits.exists())


@cache
def _whose_turn() -> Select[str, str, int]:
    use = recent_use()
    query = _with_work().outerjoin(use, use.c.project_id == Study.project_id)
    # Projects with the same use are not mixed.
    order = (func.coalesce(use.c.seconds, 0.0), Study.project_id, Study.priority.desc(), Study.turn_at, Study.id)
    return query.add_columns(Study.project_id, Study.priority).order_by(*order).limit(AT_ONCE)


@cache
def _long_leased(of_one_study: bool) -> Executable:
    columns = (Unit.id, Unit.study_id, Unit.kind, Unit.rung, Unit.horizon, Unit.step, Unit.fence, Unit.leased_at)
    query = (
        select(*columns, (db_epoch() - Unit.leased_at).label("held_s"))
        .join(Study, Study.id == Unit.study_id)
        .where(
            Unit.state == UnitState.LEASED,
            Unit.leased_at < db_epoch() - bindparam("least", type_=Double),
            Unit.attempts == 1,
            Unit.worker_id != bindparam("worker", type_=String),
            Study.state.in_(ACTIVE),
            Study.external.is_(False),
        )
        .order_by(Unit.leased_at)
    )
    return query.where(Unit.study_id == bindparam("study", type_=String)) if of_one_study else query
