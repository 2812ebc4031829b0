"""Use cases of a person's own loop: ask for a trial, tell what came of it; how it goes is ``reporting``.

A client is one more worker: its trial is a unit under a lease and a fence, as an engine's pack is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from optim_core.spec.numbers import measured
from optim_core.spec.states import STUDY_ENDED, StudyState, TrialState, UnitState
from service.db import Database
from service.db.models import Study, Unit
from service.db.repositories import CurveRepository, StudyRepository, TrialRepository, UnitRepository
from service.db.repositories.studies import ACTIVE
from service.operations import queue, results, told_results
from service.operations.errors import Conflict, ServiceError, study_not_found
from service.operations.tokens import check_trial, client_key, read_token, token_of, why_lost
from service.operations.views import Asked, AskedTrial, ClientView, Released, Told

# A process that was silent for so many heartbeats is given up where another one asks under its name.
MISSED = 2
# A client that was not heard of for so long is not shown any more.
CLIENT_SEEN_S = 3600.0
# The mean of rows that were told in single precision is the metric up to this, relatively.
_ROWS_AGREE = 1e-4


@dataclass(frozen=True)
class Lease:
    """How long a trial belongs to its client without a sign of life, and how often it should give one, in seconds."""

    lease_s: float
    heartbeat_s: float


def ask(db: Database, study_id: str, client_id: str, lease: Lease, instance: str | None = None) -> Asked:
    """The trial that the client holds, or the next one; how long to wait when there is none, or that the study has ended.

    ``instance``: the process that asks. While another one that asked under this name gives signs of life, the trial is that
    one's; after ``MISSED`` heartbeats without, the one that asks has it, under a token of its own. Conflict ``not_external``
    for a study that engine workers train.
    """
    with db.write() as session:
        studies, units = StudyRepository(session), UnitRepository(session)
        study = _external(studies.lock(study_id), study_id)
        if study.state in STUDY_ENDED:
            return Asked(ended=True, status=StudyState(study.state))
        unit = units.leased_by(study_id, client_id)
        if unit is not None and None not in (instance, unit.instance) and unit.instance != instance:
            seen = units.last_seen(client_key(study_id, client_id))
            if seen is not None and studies.now() - seen < MISSED * lease.heartbeat_s:
                return Asked(status=StudyState(study.state), wait=lease.heartbeat_s, in_use=True)
            unit.fence += 1
            session.flush()
        now = None
        if unit is not None:
            unit.instance = instance
            units.extend(unit.id, unit.fence, lease.lease_s)
        elif study.state in ACTIVE:
            unit = queue.take(session, study, client_id, lease.lease_s, instance=instance)
            now = None if unit is None else unit.leased_at  # a moment ago
        # Units before workers, here and in ``reporting``: one order of locks.
        units.see_clients({client_key(study_id, client_id): study_id}, now or studies.now())
        if unit is None:
            return Asked(status=StudyState(study.state), wait=lease.heartbeat_s if study.state not in ACTIVE else 1.0)
        session.flush()
        return Asked(status=StudyState(study.state), trial=_asked(session, study, unit, lease))


def worth_asking(db: Database, study_id: str) -> bool:
    """Whether ``ask`` would have more to say than to wait. Takes no lock."""
    with db.read() as session:
        study = StudyRepository(session).get(study_id)
        if study is None or study.state in STUDY_ENDED:
            return True
        return study.state in ACTIVE and UnitRepository(session).any_queued(study_id)


def release(db: Database, study_id: str, number: int, client_id: str, token: str) -> Released:
    """Give a trial back that nobody is at fault for: another client gets it at once, and the attempt does not count."""
    with db.read() as session:
        unit, fence = _unit(session, study_id, number, token)
        unit_id, mine = unit.id, unit.worker_id == client_id
    return Released(released=mine and queue.release_unit(db, unit_id, fence))


def tell(
    db: Database,
    study_id: str,
    number: int,
    client_id: str,
    token: str,
    *,
    value: float | None = None,
    loss: float | None = None,
    rows: Sequence[float] | None = None,
    failed: str | None = None,
) -> Told:
    """End the trial with its metric, or with the reason why it failed. The same told again is answered alike.

    A value that is not finite, or beyond ``numbers.LARGEST``, is a divergence. ``rows``: what each row of the test split
    scored, the metric being their mean; kept of confirmation runs. Conflict ``lease_lost`` (another client has the trial now)
    or ``trial_finished`` (it ended otherwise, or something else was told of it before); ServiceError ``rows_mismatch``.
    """
    if rows is not None and value is not None:
        _check_rows(value, rows)
    with db.write() as session:
        study, named = StudyRepository(session).lock(study_id), read_token(token)
        unit_id, fence = named or (0, 0)
        found, now = UnitRepository(session).get_now(unit_id) or (None, 0.0)
        unit = check_trial(found, study_id, number)
        if study is None:
            raise study_not_found(study_id)
        if unit.state == UnitState.DONE and unit.fence == fence and unit.worker_id == client_id:
            before = _told_before(unit)
            if before != _as_told(value, failed):
                raise Conflict("trial_finished", f"trial {number} has ended: {_in_words(before)} was told of it before")
            trial = TrialRepository(session).get(study.id, number)
            assert trial is not None
            return Told(number=number, state=TrialState(trial.state), status=StudyState(study.state))
        if unit.state != UnitState.LEASED or unit.fence != fence or unit.worker_id != client_id:
            reason = why_lost(unit)
            code = "lease_lost" if reason == "lease_lost" else "trial_finished"
            raise Conflict(code, f"trial {number} is no longer yours: {reason.replace('_', ' ')}")
        if failed is not None:
            state = TrialState.FAILED
            ended = told_results.end_failed(session, study, unit, fence, now, "trial_failed", failed)
        elif value is None or not measured(value):
            state = TrialState.DIVERGED
            ended = told_results.end_diverged(session, study, unit, fence, now, unit.horizon)
        else:
            state = TrialState.COMPLETED
            known_loss = loss if loss is not None and measured(loss) else None
            ended = told_results.end_with(session, study, unit, fence, now, value, known_loss, rows)
        assert ended, "nobody takes a unit away while its study is locked"
        return Told(number=number, state=state, status=StudyState(study.state))


def clients(db: Database, study_id: str) -> list[ClientView]:
    """Clients of the study heard of in the last hour, and those that hold a trial; who is late first."""
    with db.read() as session:
        studies, units = StudyRepository(session), UnitRepository(session)
        study = studies.get(study_id)
        if study is None:
            raise study_not_found(study_id)
        now = studies.now()
        seen = {row.id.partition(":")[2]: row.last_seen for row in units.workers(now - CLIENT_SEEN_S, study_id)}
        held = {str(unit.worker_id): unit for unit in units.leased(study_id)} if study.external else {}
        found = [_client(name, seen.get(name), held.get(name), now) for name in sorted(set(seen) | set(held))]
    return sorted(found, key=lambda client: (not client.late, client.id))


def _client(name: str, last_seen: float | None, unit: Unit | None, now: float) -> ClientView:
    left = None if unit is None or unit.lease_until is None else unit.lease_until - now
    return ClientView(
        id=name,
        age_s=None if last_seen is None else max(0.0, now - last_seen),
        trial=None if unit is None else results.numbers_of(unit)[0],
        stage=None if unit is None else unit.spec["trials"][0]["stage"],
        optimizer=None if unit is None else unit.spec["trials"][0]["configuration"]["optimizer"],
        step=None if unit is None else unit.step,
        steps=None if unit is None else unit.horizon,
        attempt=None if unit is None else unit.attempts,
        lease_left_s=left,
        late=left is not None and left < 0,
    )


def _external(study: Study | None, study_id: str) -> Study:
    if study is None:
        raise study_not_found(study_id)
    if not study.external:
        raise Conflict("not_external", "this study is trained by workers: nobody else can ask for its trials")
    return study


def _asked(session: Session, study: Study, unit: Unit, lease: Lease) -> AskedTrial:
    [trial] = unit.spec["trials"]
    return AskedTrial(
        number=trial["number"],
        token=token_of(unit),
        configuration=trial["configuration"],
        seed=trial["seed"],
        steps=unit.horizon,
        split=unit.spec["split"],
        stage=trial["stage"],
        rung=unit.rung,
        attempt=unit.attempts,
        # Of a unit that was given out once, nobody has told anything.
        reported_step=CurveRepository(session).last_step(unit.id) if unit.fence > 1 or unit.step else 0,
        # Another horizon is another run: its schedule is another, and it begins anew.
        checkpoint=f"{study.id}-{trial['number']}-{unit.horizon}",
        lease_s=lease.lease_s,
        heartbeat_s=lease.heartbeat_s,
    )


def _unit(session: Session, study_id: str, number: int, token: str) -> tuple[Row[Any], int]:
    """The unit, as ``UnitRepository.named``, and the fence that a token names. NotFound unless they are of this trial of this
    study.
    """
    named = read_token(token)
    unit = None if named is None else UnitRepository(session).named(named[0])
    return check_trial(unit, study_id, number), 0 if named is None else named[1]


def _as_told(value: float | None, failed: str | None) -> float | str | None:
    """A metric, the reason of a failure, or None for a divergence."""
    return failed if failed is not None else value if value is not None and measured(value) else None


def _told_before(unit: Unit) -> float | str | None:
    """What ended the unit, as ``_as_told``."""
    return unit.error_message or (unit.result or {})["trials"][0]["metric"]


def _in_words(told: float | str | None) -> str:
    if told is None:
        return "that it diverged"
    return f"its failure ({told})" if isinstance(told, str) else f"{told:.6g}"


def _check_rows(value: float, rows: Sequence[float]) -> None:
    fine = len(rows) > 1 and all(map(measured, rows))
    mean = math.fsum(rows) / len(rows) if fine else math.nan
    if not fine or abs(mean - value) > _ROWS_AGREE * max(1.0, abs(value)):
        wrong = f"{mean:.6g} is not {value:.6g}"
        if not fine:
            wrong = f"these are {len(rows)}" if len(rows) < 2 else "one is not finite"
        detail = f"rows are at least two finite scores whose mean is the metric: {wrong}"
        raise ServiceError(
            422, "rows_mismatch", detail, [{"pointer": "/rows", "code": "rows_mismatch", "detail": detail}]
        )
