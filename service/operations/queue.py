"""Use cases of workers: claim a unit under a lease, keep it, report, commit, give it back; and the sweep.

A claim's ``token`` is the unit's fence, which rises with every claim. Each write names it; when the unit is no longer
leased under it, nothing is written and the caller learns so. Everything is one transaction in which the study's row is
locked first; heartbeats and checkpoints touch the unit alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState, TrialState, UnitState
from optim_core.spec.trial import CurvePoint, UnitResult, UnitSpec
from service.db import Database
from service.db.base import db_epoch
from service.db.models import Study, Unit
from service.db.repositories import CurveRepository, StudyRepository, TrialRepository, UnitRepository, UseRepository
from service.db.repositories.studies import ACTIVE
from service.operations import access, overtaking, planning, present, results, told_results
from service.operations.views import QueueStats, WorkerView
from service.text import storable

DEFAULT_ATTEMPTS = 3
# A trial whose client was lost is given to another one once; then it counts as failed, and the study goes on without it.
CLIENT_ATTEMPTS = 2
WORKER_SEEN_S = 120.0
# Processes that a person's own code may end before it is said to do so: one may have been ended from outside.
OWN_DEATHS = 2
# When a study failed, in front of why, for the person who asked.
_WHEN = {
    "probe": "in the first steps: ", "train": "in the search: ", "screen": "in the search: ",
    "confirm": "in the confirmation: ",
}  # fmt: skip


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
    """Ids of units taken back and of units given up, studies that want planning, units that wait, workers that train."""

    requeued: list[int]
    failed: list[int]
    to_advance: list[str]
    queued: int
    workers: int


def claim_unit(
    db: Database, worker_id: str, lease_s: float, study_id: str | None = None, *, slow: bool = False,
    overtake: bool = True,
) -> Claim | None:  # fmt: skip
    """Take the first unit of the study whose turn it is (or of this one); None when nothing is to do.

    Its project had the fewest device seconds in the last hour; of its studies priority decides, then who waits longest. In it
    the unit of a much slower worker comes first; where nothing waits, that of any study. ``slow``: the caller was overtaken a
    while ago: it takes what is waited for least, the study's last unit, and none where others will soon have begun them all.
    ``overtake``: whether to look for slow workers.
    """
    while True:
        with db.read() as session:
            candidates = UnitRepository(session).studies_with_work(study_id)
            if slow and candidates and _stands_aside(session, worker_id):
                return None
            of_study = candidates[0] if candidates else study_id
            behind = overtaking.slow_unit(session, worker_id, of_study) if overtake and not slow else None
        claim = None if behind is None else _overtake(db, behind, worker_id, lease_s)
        if claim is not None or not candidates:
            return claim
        claim = _claim_in(db, candidates, worker_id, lease_s, last=slow)
        if claim is not None:
            return claim
        # Somebody else took the last unit of that study: look again.


def _stands_aside(session: Session, worker_id: str) -> bool:
    others = sum(worker.id != worker_id for worker in planning.alive_workers(session))
    waiting, _, _ = UnitRepository(session).queue_depth()
    return overtaking.stands_aside(waiting, others)


def _claim_in(db: Database, study_ids: Sequence[str], worker_id: str, lease_s: float, *, last: bool) -> Claim | None:
    with db.write() as session:
        studies, units = StudyRepository(session), UnitRepository(session)
        study = studies.lock_first(study_ids)
        if study is None or study.state not in ACTIVE:
            return None
        unit = take(session, study, worker_id, lease_s, last=last)
        if unit is None:
            return None
        units.see_worker(worker_id)
        return _claim_of(session, study, unit)


def _overtake(db: Database, slow: overtaking.Slow, worker_id: str, lease_s: float) -> Claim | None:
    """Go on with what a much slower worker holds; None where it no longer does."""
    with db.write() as session:
        studies, units = StudyRepository(session), UnitRepository(session)
        study = studies.lock(slow.study_id)
        if study is None or study.state not in ACTIVE:
            return None
        unit = units.take_over(slow.unit_id, slow.token, worker_id, lease_s)
        if unit is None:
            return None
        now = leased_at(unit)
        studies.add_event(study, "unit.started", _started(unit, worker_id), now)
        units.see_worker(worker_id)
        claim = _claim_of(session, study, unit)
        UseRepository(session).add(study, slow.leased_at, now)
        return claim


def _claim_of(session: Session, study: Study, unit: Unit) -> Claim:
    return Claim(
        unit_id=unit.id,
        study_id=study.id,
        spec=StudySpec.model_validate_json(canonical_json(study.spec)),
        unit=UnitSpec.model_validate_json(canonical_json(unit.spec)),
        token=unit.fence,
        attempt=unit.attempts,
        # Whoever claims a unit first finds nothing.
        checkpoint=CurveRepository(session).checkpoint(unit.id) if unit.fence > 1 else None,
    )


def leased_at(unit: Unit) -> float:
    """When a unit that is leased came to whoever holds it."""
    if unit.leased_at is None:
        raise ValueError(f"unit {unit.id} was never leased")
    return unit.leased_at


def _started(unit: Unit, worker_id: str) -> dict[str, Any]:
    told = {"unit": unit.key, "kind": unit.kind, "rung": unit.rung, "horizon": unit.horizon}
    return {**told, "trials": len(results.numbers_of(unit)), "worker": worker_id, "attempt": unit.attempts}


def take(
    session: Session, study: Study, worker_id: str, lease_s: float, *, last: bool = False, instance: str | None = None
) -> Unit | None:
    """Lease the active study's oldest queued unit (or its ``last``), its row being locked: under a new fence, its trials
    running. ``instance``: the client's process. None when nothing waits, and where its project has no device seconds left: then
    the study fails.
    """
    studies = StudyRepository(session)
    if (used_up := access.device_used_up(session, study.project_id)) is not None:
        results.fail(session, study, "quota_exceeded", used_up, studies.now())
        return None
    unit = UnitRepository(session).claim(study.id, worker_id, lease_s, last=last, instance=instance)
    if unit is None:
        return None
    now = leased_at(unit)
    numbers = results.numbers_of(unit)
    TrialRepository(session).must_move(study.id, numbers, TrialState.RUNNING, unit_id=unit.id)
    if study.state == StudyState.QUEUED:
        studies.move(study, StudyState.RUNNING, started_at=study.started_at or now)
        studies.add_event(study, "study.state", {"state": study.state}, now)
    studies.add_event(study, "unit.started", _started(unit, worker_id), now)
    return unit


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
            units.see_worker(str(unit.worker_id))
            return "ok" if study.state in ACTIVE else "stop"
        return "stop" if unit.state == UnitState.CANCELLED else "lost"


def taken_over(db: Database, unit_id: int, token: int) -> bool:
    """Whether somebody else has had the unit since it was leased under ``token``."""
    with db.read() as session:
        unit = UnitRepository(session).get(unit_id)
        return unit is not None and unit.fence > token and unit.state in (UnitState.LEASED, UnitState.DONE)


def report_progress(db: Database, unit_id: int, token: int, points: list[tuple[int, CurvePoint]], step: int) -> bool:
    """Add live points (trial number, point) and say how far the unit is. False when the lease is lost."""
    with db.write() as session:
        study = StudyRepository(session).lock_of_unit(unit_id)
        units = UnitRepository(session)
        if study is None or not units.held(unit_id, token, step=step):
            return False
        CurveRepository(session).add((unit_id, number, point) for number, point in points)
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
    """Keep the unit's state for whoever runs it next. False when the lease is lost.

    Earlier attempts are forgotten: the unit has come further. Where workers die often, each of them otherwise brought a long
    unit nearer to its last attempt.
    """
    with db.write() as session:
        # The write to the unit's row holds off a commit or another claim until we are done.
        if not UnitRepository(session).held(unit_id, token, attempts=1, **_spent()):
            return False
        CurveRepository(session).save_checkpoint(unit_id, data, StudyRepository(session).now())
        return True


def complete_unit(db: Database, unit_id: int, token: int, result: UnitResult) -> bool:
    """Commit a unit's result, exactly once. False, and nothing written: lease lost, or study cancelled."""
    with db.write() as session:
        study = StudyRepository(session).lock_of_unit(unit_id)
        units = UnitRepository(session)
        found = units.get_now(unit_id)
        if study is None or found is None:
            return False
        unit, now = found
        stored = results.document_of(result, unit.kind)
        if not units.end_lease(unit_id, token, UnitState.DONE, result=stored, finished_at=now):
            return False
        results.record(session, study, unit, result, now)
        UseRepository(session).add(study, unit.leased_at, now)
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
    # What a person's code raised may hold anything.
    message = storable(message)
    with db.write() as session:
        study = StudyRepository(session).lock_of_unit(unit_id)
        unit = UnitRepository(session).get(unit_id)
        if study is None or unit is None:
            return False
        if retryable and unit.attempts < max_attempts:
            return _requeue(session, study, unit, token, code, message)
        # What is final is wrong with the study, whichever unit met it.
        return _give_up(session, study, unit, token, code, message, _WHEN[unit.kind] if retryable else "")


def release_unit(
    db: Database, unit_id: int, token: int, checkpoint: bytes | None = None, *, turn_over: bool = False
) -> bool:
    """Give a healthy unit back, with its state; the attempt does not count. False when the lease is lost.

    It is the first of its study's that will be claimed again. ``turn_over``: it was trained for a quantum, so earlier attempts
    are forgotten, and studies that wait come first.
    """
    with db.write() as session:
        study = StudyRepository(session).lock_of_unit(unit_id)
        units, studies = UnitRepository(session), StudyRepository(session)
        if study is None:
            return False
        now = studies.now()
        given: dict[str, Any] = {"attempts": 0 if turn_over else Unit.attempts - 1}
        if checkpoint is not None:
            given |= _spent()
        if not units.end_lease(unit_id, token, UnitState.QUEUED, **given):
            return False
        if checkpoint is not None:
            CurveRepository(session).save_checkpoint(unit_id, checkpoint, now)
        if turn_over:
            study.turn_at = now
        unit = units.get(unit_id)
        assert unit is not None
        TrialRepository(session).must_move(study.id, results.numbers_of(unit), TrialState.WAITING)
        UseRepository(session).add(study, unit.leased_at, now)
        return True


def keep_turn(db: Database, unit_id: int, token: int, checkpoint: bytes, *, alone: bool = False) -> bool:
    """After a quantum of training: whether to go on with the unit, because nobody waits who comes first. Then its state is
    kept, and earlier attempts are forgotten: it has come further. ``alone``: the caller works for this study only.
    """
    with db.write() as session:
        units = UnitRepository(session)
        unit = units.get(unit_id)
        if unit is None or (not alone and units.others_wait(unit.study_id)):
            return False
        if not units.held(unit_id, token, attempts=1, **_spent()):
            return False
        CurveRepository(session).save_checkpoint(unit_id, checkpoint, StudyRepository(session).now())
        return True


def end_turn(db: Database, study_id: str) -> None:
    """A worker was at this study for a quantum: those that wait come first."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = studies.lock(study_id)
        if study is not None:
            study.turn_at = studies.now()


def sweep(db: Database, max_attempts: int = DEFAULT_ATTEMPTS) -> SweepReport:
    """Take back expired leases; give up units that were tried too often. Many sweepers may run at once."""
    requeued: list[int] = []
    failed: list[int] = []
    with db.read() as session:
        expired = [(unit.id, unit.fence) for unit in UnitRepository(session).expired()]
    for unit_id, token in expired:
        with db.write() as session:
            study = StudyRepository(session).lock_of_unit(unit_id)
            unit = UnitRepository(session).get(unit_id)
            if study is None or unit is None or unit.fence != token or unit.lease_until is None:
                continue
            now = StudyRepository(session).now()
            if unit.lease_until >= now:
                continue  # it was extended since we looked
            most = min(max_attempts, CLIENT_ATTEMPTS) if study.external else max_attempts
            told = f"{'client' if study.external else 'worker'} {unit.worker_id} was lost in attempt {unit.attempts} of {most}"
            if unit.attempts < most:
                if _requeue(session, study, unit, token, "client_lost" if study.external else "worker_lost", told):
                    requeued.append(unit_id)
            elif study.external:
                if told_results.end_failed(session, study, unit, token, now, "client_lost", told):
                    failed.append(unit_id)
            elif _give_up(session, study, unit, token, "attempts_exceeded", told, _WHEN[unit.kind]):
                failed.append(unit_id)
    with db.read() as session:
        return SweepReport(
            requeued=requeued,
            failed=failed,
            to_advance=[study_id for study_id, waits in StudyRepository(session).active() if waits],
            queued=UnitRepository(session).queue_depth()[0],
            workers=len(UnitRepository(session).workers(StudyRepository(session).now() - WORKER_SEEN_S)),
        )


def forget_old_use(db: Database) -> None:
    """Remove what projects used before the last hour."""
    with db.write() as session:
        UseRepository(session).forget_old()


def worker_gone(db: Database, worker_id: str) -> None:
    """Note that a worker has ended, so that no plan counts on it."""
    with db.write() as session:
        UnitRepository(session).forget_worker(worker_id)


def worker_died(db: Database, worker_id: str, how: str, max_attempts: int = DEFAULT_ATTEMPTS) -> bool:
    """Take back at once what a process held that is known to have ended, instead of waiting for its lease; says whether it
    held anything. ``how``: a half sentence. A person's own code that ends two of them is the person's to mend.
    """
    with db.read() as session:
        held = [
            (unit.id, unit.fence, unit.attempts, _is_own(session, unit.study_id))
            for unit in UnitRepository(session).all_leased_by(worker_id)
        ]
    for unit_id, token, attempts, own in held:
        told = f"the worker process {how} in attempt {attempts}"
        if own and attempts >= OWN_DEATHS:
            told = f"{told} while it ran your code: something in it, or a library that it uses, ends the process"
            fail_unit(db, unit_id, token, "user_code_error", told, retryable=False)
        else:
            code = "worker_lost" if attempts < max_attempts else "attempts_exceeded"
            fail_unit(db, unit_id, token, code, told, retryable=True, max_attempts=max_attempts)
    worker_gone(db, worker_id)
    return bool(held)


def _is_own(session: Session, study_id: str) -> bool:
    study = StudyRepository(session).get(study_id)
    return study is not None and StudySpec.model_validate_json(canonical_json(study.spec)).own


def worker_seen(db: Database, worker_id: str, device: str | None = None) -> None:
    """Note that an idle worker lives; a claim and a heartbeat say so by themselves."""
    with db.write() as session:
        UnitRepository(session).see_worker(worker_id, device)


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
        studies = StudyRepository(session)
        alive = len(units.workers(studies.now() - WORKER_SEEN_S))
        return QueueStats(
            studies=studies.count_of_workers(), queued=queued, leased=leased, oldest_queued_s=waited, workers=alive
        )


def _spent() -> dict[str, Any]:
    """What a checkpoint says besides: the time that it took, which nobody will have to spend again."""
    return {"spent_s": db_epoch() - Unit.claimed_at}


def _requeue(session: Session, study: Study, unit: Unit, token: int, code: str, message: str) -> bool:
    told = {"error_code": code, "error_message": message}
    if not UnitRepository(session).end_lease(unit.id, token, UnitState.QUEUED, **told):
        return False
    TrialRepository(session).must_move(study.id, results.numbers_of(unit), TrialState.WAITING)
    studies = StudyRepository(session)
    now = studies.now()
    studies.add_event(study, "unit.requeued", {"unit": unit.key, "code": code, "message": message}, now)
    UseRepository(session).add(study, unit.leased_at, now)
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
    UseRepository(session).add(study, unit.leased_at, now)
    return True
