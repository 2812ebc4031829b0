"""Use cases of people and clients: create, look at, pause, resume, cancel and delete studies; their trials and answers.

Every function is one transaction. All raise NotFound (404) for a study that does not exist, DatabaseUnavailable when
the database cannot answer now.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from optim_core.data.text import plural
from optim_core.spec.keys import canonical_json, content_hash
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.states import STUDY_ENDED, StudyState, TrialState, UnitState
from service.db import Database
from service.db.models import Study
from service.db.ownership import owner
from service.db.repositories import (
    AccessRepository,
    CurveRepository,
    HookRepository,
    StudyRepository,
    TrialRepository,
    UnitRepository,
    UseRepository,
)
from service.operations import access, artifacts, cursors, present
from service.operations.errors import Conflict, NotFound, ServiceError, invalid_parameter, study_not_found
from service.operations.views import Curve, Page, StudyDetail, StudySummary, TrialDetail, TrialView


def create_study(
    db: Database,
    spec: StudySpec,
    *,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
    to_check: bool = False,
) -> StudyDetail:
    """Store a study and its first event. ServiceError ``idempotency_key_reused``: the key came with another request;
    ``quota_exceeded``, ``artifact_not_found``.

    ``idempotency_key``: the same key with the same ``request_hash`` (by default the hash of the spec) gives the study
    that the first call made, however many calls run at once. ``to_check``: its data are read by somebody before it is queued.
    """
    request_hash = request_hash or content_hash(spec.model_dump(mode="json"))
    for last_try in (False, True):
        try:
            with db.write() as session:
                known = None if idempotency_key is None else _created_before(session, idempotency_key, request_hash)
                return known or _insert(session, spec, idempotency_key, request_hash, to_check)
        except IntegrityError:
            # Another transaction stored the key between our look and our insert: look again, once.
            if last_try or idempotency_key is None:
                raise
    raise AssertionError("unreachable")


def created_before(db: Database, idempotency_key: str, request_hash: str) -> StudyDetail | None:
    """The study that a request with this key made, None when there was none. ServiceError ``idempotency_key_reused``."""
    with db.read() as session:
        return _created_before(session, idempotency_key, request_hash)


def _created_before(session: Session, key: str, request_hash: str) -> StudyDetail | None:
    known = StudyRepository(session).idempotency_key(key)
    if known is None:
        return None
    if known.request_hash != request_hash:
        raise ServiceError(422, "idempotency_key_reused", "this Idempotency-Key was used for another request")
    return _detail(session, known.study_id)


def _insert(session: Session, spec: StudySpec, key: str | None, request_hash: str, to_check: bool) -> StudyDetail:
    studies = StudyRepository(session)
    access.check_quota(session, owner(session))
    now = studies.now()
    metric, direction = present.metric_of(spec)
    document = spec.model_dump(mode="json")
    study = Study(
        # Sorts by time of creation; the random part cannot be guessed.
        id=f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}",
        name=spec.name,
        state=(StudyState.CHECKING if to_check else StudyState.QUEUED).value,
        model=present.model_label(spec),
        dataset=present.dataset_label(spec),
        spec=document,
        spec_hash=content_hash(document),
        metric=metric,
        direction=direction,
        external=spec.external,
        forecast=present.price_of(spec),
        priority=spec.priority,
        deadline=deadline_of(document, now),
        created_at=now,
        turn_at=now,
    )
    studies.add(study)
    study.dataset = artifacts.name_in_study(session, study.id, spec, now) or study.dataset
    if key is not None:
        studies.add_idempotency_key(key, request_hash, study.id, now)
    studies.add_event(study, "study.state", {"state": study.state}, now)
    session.flush()
    return present.study_detail(study, None)


def deadline_of(spec: dict[str, Any], now: float) -> float | None:
    """When a study that begins (again) now has to have its answer; None without a limit."""
    allowed = spec["budget"].get("deadline")
    return None if allowed is None else now + allowed


def _detail(session: Session, study_id: str) -> StudyDetail:
    studies = StudyRepository(session)
    study = _found(studies.get(study_id), study_id)
    return present.study_detail(study, _times(studies, [study]).get(study_id))


def _found(study: Study | None, study_id: str) -> Study:
    if study is None:
        raise study_not_found(study_id)
    return study


def _times(studies: StudyRepository, rows: list[Study]) -> dict[str, tuple[float, float]]:
    """Run times up to now of the studies in which a unit may be running; others have them stored."""
    live = [row.id for row in rows if row.state in (StudyState.RUNNING, StudyState.PAUSED)]
    return studies.run_times(live) if live else {}


def get_study(db: Database, study_id: str) -> StudyDetail:
    """One study, with its spec and progress."""
    with db.read() as session:
        return _detail(session, study_id)


def list_studies(
    db: Database,
    status: str | None = None,
    model: str | None = None,
    find: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[StudySummary]:
    """Studies, newest first. ``find``: those of this name, and those whose ids begin so.

    ServiceError ``invalid_parameter`` (unknown status) or ``invalid_cursor``.
    """
    if status is not None and status not in list(StudyState):
        raise invalid_parameter("status", f"status is one of {', '.join(StudyState)}")
    limit = cursors.check_limit(limit)
    after = None if cursor is None else tuple(cursors.decode(cursor, "studies", float, str))
    with db.read() as session:
        studies = StudyRepository(session)
        rows = list(studies.page(status, model, find, after, limit + 1))  # type: ignore[arg-type]
        page = rows[:limit]
        times = _times(studies, page)
        items = [present.study_summary(row, times.get(row.id)) for row in page]
    more = cursors.encode("studies", page[-1].created_at, page[-1].id) if len(rows) > limit else None
    return Page(items=items, next_cursor=more)


def cancel_study(db: Database, study_id: str) -> StudyDetail:
    """End a study for good; results that arrive later are dropped. A study that has ended is returned as it is."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = _found(studies.lock(study_id), study_id)
        now = studies.now()
        if studies.move(study, StudyState.CANCELLED, finished_at=now):
            units = UnitRepository(session)
            began = [unit.leased_at for unit in units.leased(study_id)]
            units.cancel_all(study_id)
            TrialRepository(session).cancel_open(study_id)
            studies.add_event(study, "study.state", {"state": study.state}, now)
            for leased_at in began:
                UseRepository(session).add(study, leased_at, now)
        return _detail(session, study_id)


def pause_study(db: Database, study_id: str) -> StudyDetail:
    """Stop claiming; running units hand in a checkpoint and go back to the queue. Conflict when the study has ended."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = _found(studies.lock(study_id), study_id)
        if study.state != StudyState.PAUSED:
            if not studies.move(study, StudyState.PAUSED):
                raise Conflict(
                    *(
                        ("study_checking", "its data are being checked; pause it afterwards, or cancel it")
                        if study.state == StudyState.CHECKING
                        else ("study_ended", f"the study is {study.state} already")
                    )
                )
            studies.add_event(study, "study.state", {"state": study.state}, studies.now())
        return _detail(session, study_id)


def resume_study(db: Database, study_id: str) -> StudyDetail:
    """Go on with a paused or failed study where it stopped; failed units get all their attempts again.

    One that failed because of its data is checked again first. Conflict ``already_running`` for a study that is checked,
    queued or running, ``study_ended`` for a cancelled or completed one; ServiceError ``quota_exceeded``.
    """
    with db.write() as session:
        studies = StudyRepository(session)
        study = _found(studies.lock(study_id), study_id)
        if study.state in (StudyState.CHECKING, StudyState.QUEUED, StudyState.RUNNING):
            raise Conflict("already_running", f"the study is {study.state}")
        if study.state in (StudyState.PAUSED, StudyState.FAILED):
            access.check_quota(session, study.project_id, more=int(study.state == StudyState.FAILED))
        afresh = {
            "finished_at": None,
            "error_code": None,
            "error_message": None,
            "error_details": None,
            "check_tries": 0,
            "deadline": deadline_of(study.spec, studies.now()),
        }
        target = StudyState.QUEUED if study.error_details is None else StudyState.CHECKING
        if not studies.move(study, target, **afresh):
            raise Conflict("study_ended", f"a {study.state} study cannot go on; create a new one from its spec")
        UnitRepository(session).move_all(
            study_id,
            [UnitState.FAILED],
            UnitState.QUEUED,
            attempts=0,
            error_code=None,
            error_message=None,
            finished_at=None,
        )
        study.result_seq += 1
        studies.add_event(study, "study.state", {"state": study.state}, studies.now())
        session.flush()
        return _detail(session, study_id)


def finish_study(db: Database, study_id: str) -> StudyDetail:
    """Search no more: confirm the best of what is there, briefly, and answer. A paused study goes on for it; one that has
    ended is returned as it is.

    Conflict ``nothing_to_finish`` before any trial has ended.
    """
    with db.write() as session:
        studies = StudyRepository(session)
        study = _found(studies.lock(study_id), study_id)
        if study.state in STUDY_ENDED:
            return _detail(session, study_id)
        if study.trials_done == 0:
            raise Conflict("nothing_to_finish", "no trial has ended yet; wait for the first, or cancel the study")
        search_no_more(session, study)
        if study.state == StudyState.PAUSED:
            studies.move(study, StudyState.QUEUED)
            study.result_seq += 1
            studies.add_event(study, "study.state", {"state": study.state}, studies.now())
        session.flush()
        return _detail(session, study_id)


def search_no_more(session: Session, study: Study) -> bool:
    """Mark a locked study as finishing and drop what waits or runs of its search. False when it was marked already."""
    if study.finishing:
        return False
    studies = StudyRepository(session)
    study.finishing = True
    units, now = UnitRepository(session), studies.now()
    began = {unit.id: unit.leased_at for unit in units.leased(study.id)}
    cancelled = units.cancel_search(study.id)
    TrialRepository(session).stop_waiting(study.id, cancelled)
    study.result_seq += 1
    studies.add_event(study, "study.finishing", {"units_cancelled": len(cancelled)}, now)
    for unit_id in cancelled:
        UseRepository(session).add(study, began.get(unit_id), now)
    return True


def delete_study(db: Database, study_id: str) -> None:
    """Remove a study and all that belongs to it. Conflict ``study_running`` while it could still do work."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = _found(studies.lock(study_id), study_id)
        if study.state in (StudyState.CHECKING, StudyState.QUEUED, StudyState.RUNNING):
            raise Conflict("study_running", f"the study is {study.state}; cancel it first")
        AccessRepository(session).keep_spent(study)
        if study.error_details:  # refused before anybody knew of it
            HookRepository(session).drop_waiting(study.id)
        studies.delete(study)


def list_trials(
    db: Database,
    study_id: str,
    optimizer: str | None = None,
    state: str | None = None,
    sort: str = "number",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[TrialView]:
    """Trials by ``number``, or the best first for ``sort="metric"`` (trials without a result last)."""
    if state is not None and state not in list(TrialState):
        raise invalid_parameter("state", f"state is one of {', '.join(TrialState)}")
    if sort not in {"number", "metric"}:
        raise invalid_parameter("sort", "sort is number or metric")
    limit = cursors.check_limit(limit)
    with db.read() as session:
        _found(StudyRepository(session).get(study_id), study_id)
        trials = TrialRepository(session)
        if sort == "number":
            after = None if cursor is None else cursors.decode(cursor, "trials.number", int)[0]
            rows = trials.page_by_number(study_id, optimizer, state, after, limit + 1)
        else:
            place = None if cursor is None else tuple(cursors.decode(cursor, "trials.metric", float, int))
            rows = trials.page_by_objective(study_id, optimizer, state, place, limit + 1)  # type: ignore[arg-type]
    page, more = rows[:limit], None
    if len(rows) > limit:
        last = page[-1]
        keys = (last.number,) if sort == "number" else (last.objective, last.number)
        more = cursors.encode(f"trials.{sort}", *keys)
    return Page(items=[TrialView(**present.trial_fields(row)) for row in page], next_cursor=more)


def get_trial(db: Database, study_id: str, number: int) -> TrialDetail:
    """One trial with its learning curve. NotFound ``trial_not_found``."""
    with db.read() as session:
        _found(StudyRepository(session).get(study_id), study_id)
        # A number that no column could hold is a number that no trial has.
        trial = TrialRepository(session).get(study_id, number) if 0 <= number < 2**31 else None
        if trial is None:
            raise NotFound("trial_not_found", f"study {study_id} has no trial {number}")
        curve = CurveRepository(session).of_trials([trial])[number]
    return TrialDetail(**present.trial_fields(trial), curve=curve)


def curves(db: Database, study_id: str, top: int = 10) -> list[Curve]:
    """Learning curves of the ``top`` best searched trials, best first."""
    with db.read() as session:
        _found(StudyRepository(session).get(study_id), study_id)
        trials = TrialRepository(session).best(study_id, top)
        points = CurveRepository(session).of_trials(trials)
    return [
        Curve(
            number=trial.number,
            optimizer=trial.optimizer,
            stage=trial.stage,
            state=TrialState(trial.state),
            points=points[trial.number],
        )
        for trial in trials
    ]


# In front of the notes of an answer that a study has kept which ended before it was answered anew.
OLDER_ANSWER = "This answer was given before a trial was left out, and no newer one was found:"


def get_recommendation(db: Database, study_id: str) -> Recommendation:
    """The answer; of a study that ended before it was answered anew the older one, with a note that says so. Conflict
    ``not_ready``, ``study_failed`` or ``study_cancelled`` when there is none.
    """
    with db.read() as session:
        studies = StudyRepository(session)
        study = _found(studies.get(study_id), study_id)
        document = studies.recommendation(study_id)
    if document is not None and study.state in STUDY_ENDED:
        try:
            answer = Recommendation.model_validate_json(canonical_json(document))
        except ValidationError:
            why = "an older version stored this answer in another form; create a new study from the spec"
            raise Conflict("answer_outdated", why) from None
        if study.state == StudyState.COMPLETED:
            return answer
        older = (
            f"{OLDER_ANSWER} the study {'failed' if study.state == StudyState.FAILED else 'was cancelled'} after that."
        )
        return answer.model_copy(update={"notes": [older, *answer.notes]})
    if study.state == StudyState.FAILED:
        raise Conflict("study_failed", f"the study failed: {study.error_message}")
    if study.state == StudyState.CANCELLED:
        raise Conflict("study_cancelled", "the study was cancelled before it had an answer")
    raise Conflict(
        "not_ready", f"the study is {study.state}, {plural(study.trials_done, 'trial')} done; ask again later"
    )
