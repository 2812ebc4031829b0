"""Use case of a person's own loop: report how trials go. Reports that come at once are written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from optim_core.spec.numbers import measured
from optim_core.spec.states import STUDY_ENDED, UnitState
from optim_core.spec.trial import CurvePoint
from service.db import Database
from service.db.repositories import CurveRepository, StudyRepository, UnitRepository
from service.operations import told_results
from service.operations.errors import NotFound, ServiceError
from service.operations.tokens import check_trial, client_key, read_token, why_lost
from service.operations.views import Decision


@dataclass(frozen=True)
class Point:
    """What a loop says of a step: its loss, its metric, either of them, finite or not."""

    step: int
    loss: float | None = None
    value: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the run is alive at this step."""
        return all(x is None or measured(x) for x in (self.loss, self.value))


@dataclass(frozen=True)
class Report:
    """What a client says of its trial. Without points it only says that it lives."""

    study_id: str
    number: int
    client_id: str
    token: str
    points: Sequence[Point] = ()

    @property
    def alive(self) -> bool:
        """Whether the run is alive at all its points."""
        return all(point.alive for point in self.points)


@dataclass(frozen=True)
class _Written:
    """``unit``: whose lease was extended; None where the client does not hold it."""

    answer: Decision | ServiceError
    unit: Row[Any] | None = None


def report(db: Database, told: Report, lease_s: float) -> Decision:
    """Add points to the trial's curve and extend its lease by ``lease_s`` seconds from now; whether to go on.

    Points may come late, twice and in any order: each step has one, the last one told. Under a lost lease nothing is written.
    Of points whose step the run does not have the others are kept: then ServiceError ``step_out_of_range``, which is final.
    A point that is not finite, or beyond ``numbers.LARGEST``, ends the trial as diverged. NotFound for a wrong token.
    """
    [answer] = report_all(db, [told], lease_s)
    if isinstance(answer, ServiceError):
        raise answer
    return answer


def report_all(db: Database, told: Sequence[Report], lease_s: float) -> list[Decision | ServiceError]:
    """``report`` for each, in this order: the answers, and in their places the errors that it would have raised."""
    together = [one for one in told if one.alive]
    answers: dict[int, Decision | ServiceError] = {}
    if len(together) > 1:
        with db.write() as session:
            found = _write(session, together, lease_s, wait=False)
        answers = {id(one): written.answer for one, written in zip(together, found, strict=True) if written is not None}
    return [answers.get(id(one)) or _report_alone(db, one, lease_s) for one in told]


def _report_alone(db: Database, told: Report, lease_s: float) -> Decision | ServiceError:
    with db.write() as session:
        # Whoever ends a trial has its study first, then its unit.
        study = None if told.alive else StudyRepository(session).lock(told.study_id)
        [written] = _write(session, [told], lease_s, wait=True)
        assert written is not None
        if written.unit is None or study is None:
            return written.answer
        horizon = written.unit.horizon
        broken = min((p.step for p in told.points if not p.alive and 0 <= p.step <= horizon), default=None)
        unit = None if broken is None else UnitRepository(session).get(written.unit.id)
        if broken is None or unit is None:
            return written.answer
        told_results.end_diverged(session, study, unit, unit.fence, written.unit.now, broken)
        return Decision(go_on=False, reason="diverged")


def _write(session: Session, told: Sequence[Report], lease_s: float, *, wait: bool) -> list[_Written | None]:
    """Write the points that are alive. ``wait``: for who has a unit locked; without, None stands in the place of its report:
    who waits for one while holding others may be waited for in turn.
    """
    tokens = [read_token(one.token) for one in told]
    units = UnitRepository(session)
    locked = units.lock_named({token[0] for token in tokens if token is not None}, wait=wait)
    found: list[_Written | None] = []
    points: list[tuple[int, int, CurvePoint]] = []
    came_to: dict[int, int] = {}
    seen: dict[str, str] = {}
    for one, token in zip(told, tokens, strict=True):
        unit = None if token is None else locked.get(token[0])
        if token is not None and unit is None and not wait:
            found.append(None)
            continue
        try:
            unit = check_trial(unit, one.study_id, one.number)
        except NotFound as error:
            found.append(_Written(error))
            continue
        held = unit.state == UnitState.LEASED and token is not None and unit.fence == token[1]
        if not held or unit.worker_id != one.client_id:
            found.append(_Written(Decision(go_on=False, reason=why_lost(unit))))
            continue
        inside = [p for p in one.points if 0 <= p.step <= unit.horizon]
        came_to[unit.id] = max([came_to.get(unit.id, int(unit.step or 0)), *(p.step for p in inside)])
        # Without a number it says no more than that the step was reached.
        told_of = [p for p in inside if p.alive and not (p.loss is None and p.value is None)]
        points.extend(
            (unit.id, one.number, CurvePoint(step=p.step, train_loss=None, loss=p.loss, value=p.value)) for p in told_of
        )
        seen[client_key(one.study_id, one.client_id)] = one.study_id
        found.append(_Written(_answer(unit, one), unit))
    if came_to:
        now = max(unit.now for unit in locked.values())
        units.come_to(came_to, now + lease_s)
        CurveRepository(session).add(points)
        # Units before workers, here and in ``ask``: one order of locks.
        units.see_clients(seen, now)
    return found


def _answer(unit: Row[Any], told: Report) -> Decision | ServiceError:
    outside = [p.step for p in told.points if not 0 <= p.step <= unit.horizon]
    if unit.study_state in STUDY_ENDED:
        return Decision(go_on=False, reason="study_ended")
    if outside:
        detail = f"steps are 0 to {unit.horizon}, not {outside[0]}; the other points of this report are kept"
        error = {"pointer": "/points", "code": "step_out_of_range", "detail": detail}
        return ServiceError(422, "step_out_of_range", detail, [error])
    return Decision(go_on=True, reason=None)
