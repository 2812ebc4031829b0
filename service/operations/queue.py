"""Use cases of workers: claim a unit under a lease, keep it, report, commit, give it back; and the sweep.

A claim's ``token`` is the unit's fence, which rises with every claim. Each write names it; when the unit is no longer
leased under it, nothing is written and the caller learns so. Everything is one transaction in which the study's row is
locked first; heartbeats and checkpoints touch the unit alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState, TrialState, UnitState
from optim_core.spec.trial import CurvePoint, UnitResult, UnitSpec
from service.db import Database
from service.db.models import Study, Unit
from service.db.repositories import CurveRepository, StudyRepository, TrialRepository, UnitRepository
from service.db.repositories.studies import ACTIVE
from service.operations import present, results
from service.operations.views import QueueStats, WorkerView

DEFAULT_ATTEMPTS = 3
WORKER_SEEN_S = 120.0


@dataclass(frozen=True)
class Claim:
    """A unit that now belongs to the caller until its lease runs out. ``attempt`` counts from 1."""

    unit_id: int
    study_id: str
    spec: StudySpec
    unit: UnitSpec
    token: int
    attempt: int
    checkpoint: bytes | None


@dataclass(frozen=True)
class SweepReport:
    """Ids of units taken back and of units given up, studies that want planning, units that wait for a worker."""

    requeued: list[int]
    failed: list[int]
    to_advance: list[str]
    queued: int


def claim_unit(db: Database, worker_id: str, lease_s: float, study_id: str | None = None) -> Claim | None:
    """Take the unit that has waited longest (of one study, when given); None when nothing waits."""
    while True:
        with db.read() as session:
            candidate = UnitRepository(session).study_with_work(study_id)
        if candidate is None:
            return None
        claim = _claim_in(db, candidate, worker_id, lease_s)
        if claim is not None:
            return claim
        # Somebody else took the last unit of that study: look again.


def _claim_in(db: Database, study_id: str, worker_id: str, lease_s: float) -> Claim | None:
    with db.write() as session:
        studies, units = StudyRepository(session), UnitRepository(session)
        study = studies.lock(study_id)
        if study is None or study.state not in ACTIVE:
            return None
        now = studies.now()
        unit = units.claim(study_id, worker_id, lease_s, now)
        if unit is None:
            return None
        units.see_worker(worker_id, None, now)
        spec = UnitSpec.model_validate_json(canonical_json(unit.spec))
        numbers = [trial.number for trial in spec.trials]
        TrialRepository(session).must_move(study_id, numbers, TrialState.RUNNING, unit_id=unit.id)
        if study.state == StudyState.QUEUED:
            studies.move(study, StudyState.RUNNING, started_at=study.started_at or now)
            studies.add_event(study, "study.state", {"state": study.state}, now)
        data = {"unit": unit.key, "kind": unit.kind, "rung": unit.rung, "horizon": unit.horizon, "trials": len(numbers)}
        studies.add_event(study, "unit.started", {**data, "worker": worker_id, "attempt": unit.attempts}, now)
        return Claim(
            unit_id=unit.id,
            study_id=study_id,
            spec=StudySpec.model_validate_json(canonical_json(study.spec)),
            unit=spec,
            token=unit.fence,
            attempt=unit.attempts,
            checkpoint=CurveRepository(session).checkpoint(unit.id),
        )


def heartbeat(db: Database, unit_id: int, token: int, lease_s: float) -> Literal["ok", "lost", "stop"]:
    """Extend the lease. ``stop``: hand in a checkpoint, the study no longer runs. ``lost``: drop the work."""
    with db.write() as session:
        units = UnitRepository(session)
        kept = units.extend(unit_id, token, lease_s)
        unit = units.get(unit_id)
        study = None if unit is None else StudyRepository(session).get(unit.study_id)
        if unit is None or study is None or unit.fence != token:
            return "lost"
        if kept:
            units.see_worker(str(unit.worker_id), None, StudyRepository(session).now())
            return "ok" if study.state in ACTIVE else "stop"
        return "stop" if unit.state == UnitState.CANCELLED else "lost"


def report_progress(db: Database, unit_id: int, token: int, points: list[tuple[int, CurvePoint]], step: int) -> bool:
    """Add live points (trial number, point) and say how far the unit is. False when the lease is lost."""
    with db.write() as session:
        study = _locked_study(session, unit_id)
        units = UnitRepository(session)
        if study is None or not units.held(unit_id, token, step=step):
            return False
        CurveRepository(session).upsert(unit_id, points)
        unit, studies = units.get(unit_id), StudyRepository(session)
        assert unit is not None
        best = present.progress(study, study.elapsed_s, study.device_s).best
        data = {
            "unit": unit.key,
            "step": step,
            "horizon": unit.horizon,
            "trials_done": study.trials_done,
            "trials_planned": study.trials_planned,
            "best": None if best is None else best.model_dump(),
        }
        studies.add_event(study, "progress", data, studies.now())
        return True


def save_checkpoint(db: Database, unit_id: int, token: int, data: bytes) -> bool:
    """Keep the unit's state for whoever runs it next. False when the lease is lost."""
    with db.write() as session:
        # The write to the unit's row, though it changes nothing, holds off a commit or another claim until we are done.
        if not UnitRepository(session).held(unit_id, token, fence=token):
            return False
        CurveRepository(session).save_checkpoint(unit_id, data, StudyRepository(session).now())
        return True


def complete_unit(db: Database, unit_id: int, token: int, result: UnitResult) -> bool:
    """Commit a unit's result, exactly once. False, and nothing written: lease lost, or study cancelled."""
    with db.write() as session:
        study = _locked_study(session, unit_id)
        units, studies = UnitRepository(session), StudyRepository(session)
        if study is None:
            return False
        now, unit = studies.now(), units.get(unit_id)
        assert unit is not None
        stored = results.document_of(result, unit.kind)
        if not units.end_lease(unit_id, token, UnitState.DONE, result=stored, finished_at=now):
            return False
        results.record(session, study, unit, result, now)
        return True


def fail_unit(
    db: Database,
    unit_id: int,
    token: int,
    code: str,
    message: str,
    retryable: bool,
    max_attempts: int = DEFAULT_ATTEMPTS,
) -> bool:
    """The unit broke. Retryable and attempts left: back to the queue; else it fails and its study with it.

    False, and nothing written, when the lease is lost.
    """
    with db.write() as session:
        study = _locked_study(session, unit_id)
        unit = UnitRepository(session).get(unit_id)
        if study is None or unit is None:
            return False
        if retryable and unit.attempts < max_attempts:
            return _requeue(session, study, unit, token, code, message)
        # What is final is wrong with the study, whichever unit met it.
        return _give_up(session, study, unit, token, code, message, f"unit {unit.key}: " if retryable else "")


def release_unit(db: Database, unit_id: int, token: int, checkpoint: bytes | None = None) -> bool:
    """Give a healthy unit back, with its state; the attempt does not count. False when the lease is lost."""
    with db.write() as session:
        study = _locked_study(session, unit_id)
        units = UnitRepository(session)
        if study is None or not units.end_lease(unit_id, token, UnitState.QUEUED, attempts=Unit.attempts - 1):
            return False
        if checkpoint is not None:
            CurveRepository(session).save_checkpoint(unit_id, checkpoint, StudyRepository(session).now())
        unit = units.get(unit_id)
        assert unit is not None
        TrialRepository(session).must_move(study.id, results.numbers_of(unit), TrialState.WAITING)
        return True


def sweep(db: Database, max_attempts: int = DEFAULT_ATTEMPTS) -> SweepReport:
    """Take back expired leases; give up units that were tried too often. Many sweepers may run at once."""
    requeued: list[int] = []
    failed: list[int] = []
    with db.read() as session:
        expired = [(unit.id, unit.fence) for unit in UnitRepository(session).expired()]
    for unit_id, token in expired:
        with db.write() as session:
            study = _locked_study(session, unit_id)
            unit = UnitRepository(session).get(unit_id)
            if study is None or unit is None or unit.fence != token or unit.lease_until is None:
                continue
            if unit.lease_until >= StudyRepository(session).now():
                continue  # it was extended since we looked
            told = f"worker {unit.worker_id} was lost in attempt {unit.attempts} of {max_attempts}"
            if unit.attempts < max_attempts:
                if _requeue(session, study, unit, token, "worker_lost", told):
                    requeued.append(unit_id)
            elif _give_up(session, study, unit, token, "attempts_exceeded", told, f"unit {unit.key}: "):
                failed.append(unit_id)
    with db.read() as session:
        return SweepReport(
            requeued=requeued,
            failed=failed,
            to_advance=[study_id for study_id, waits in StudyRepository(session).active() if waits],
            queued=UnitRepository(session).queue_depth()[0],
        )


def worker_gone(db: Database, worker_id: str) -> None:
    """Note that a worker has ended, so that no plan counts on it."""
    with db.write() as session:
        UnitRepository(session).forget_worker(worker_id)


def worker_seen(db: Database, worker_id: str, device: str | None = None) -> None:
    """Note that an idle worker lives; a claim and a heartbeat say so by themselves."""
    with db.write() as session:
        UnitRepository(session).see_worker(worker_id, device, StudyRepository(session).now())


def workers(db: Database, within_s: float = WORKER_SEEN_S) -> list[WorkerView]:
    """Workers heard of in the last ``within_s`` seconds."""
    with db.read() as session:
        now = StudyRepository(session).now()
        return [
            WorkerView(
                id=row.id,
                device=row.device,
                first_seen=row.first_seen,
                last_seen=row.last_seen,
                age_s=max(0.0, now - row.last_seen),
            )
            for row in UnitRepository(session).workers(now - within_s)
        ]


def queue_stats(db: Database) -> QueueStats:
    """What waits and what runs."""
    with db.read() as session:
        units = UnitRepository(session)
        queued, leased, waited = units.queue_depth()
        alive = len(units.workers(StudyRepository(session).now() - WORKER_SEEN_S))
        return QueueStats(queued=queued, leased=leased, oldest_queued_s=waited, workers=alive)


def _locked_study(session: Session, unit_id: int) -> Study | None:
    """The unit's study, locked; None when either is gone."""
    unit = UnitRepository(session).get(unit_id)
    return None if unit is None else StudyRepository(session).lock(unit.study_id)


def _requeue(session: Session, study: Study, unit: Unit, token: int, code: str, message: str) -> bool:
    told = {"error_code": code, "error_message": message}
    if not UnitRepository(session).end_lease(unit.id, token, UnitState.QUEUED, **told):
        return False
    TrialRepository(session).must_move(study.id, results.numbers_of(unit), TrialState.WAITING)
    studies = StudyRepository(session)
    studies.add_event(study, "unit.requeued", {"unit": unit.key, "code": code, "message": message}, studies.now())
    return True


def _give_up(session: Session, study: Study, unit: Unit, token: int, code: str, message: str, where: str) -> bool:
    studies = StudyRepository(session)
    now = studies.now()
    told = {"error_code": code, "error_message": message}
    if not UnitRepository(session).end_lease(unit.id, token, UnitState.FAILED, finished_at=now, **told):
        return False
    # The trials wait for a resume: they have no result, and nothing says that they are at fault.
    TrialRepository(session).must_move(study.id, results.numbers_of(unit), TrialState.WAITING)
    results.fail(session, study, code, f"{where}{message}", now)
    return True
