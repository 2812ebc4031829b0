"""A person leaves a trial out: no statistic of the study knows it any more, and a finished study is answered anew."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from optim_core.spec.base import clean_text
from optim_core.spec.errors import SpecError
from optim_core.spec.states import TRIAL_ENDED, StudyState
from optim_core.spec.validation import TURNING
from service.db import Database
from service.db.models import Study, Trial
from service.db.repositories import StudyRepository, TrialRepository
from service.operations import present
from service.operations.errors import Conflict, NotFound, ServiceError, study_not_found
from service.operations.studies import deadline_of
from service.operations.views import TrialView

MOST_REASON = 500


def exclude_trial(db: Database, study_id: str, number: int, reason: str) -> TrialView:
    """Leave a trial out, for good; a second time only the reason changes. A confirmation run takes the runs of all others with
    its seed with it: configurations are compared on the same seeds.

    NotFound ``trial_not_found``; Conflict ``trial_not_ended`` before it has a result, ``nothing_left`` where no seed of the
    confirmation would remain, ``study_cancelled``; ServiceError ``invalid_reason``.
    """
    _check(reason)
    with db.write() as session:
        studies, trials = StudyRepository(session), TrialRepository(session)
        study = studies.lock(study_id)
        if study is None:
            raise study_not_found(study_id)
        trial = trials.get(study_id, number) if 0 <= number < 2**31 else None
        if trial is None:
            raise NotFound("trial_not_found", f"study {study_id} has no trial {number}")
        if trial.excluded is None:
            _check_possible(study, trial, trials)
            trial.excluded, now = reason, studies.now()
            session.flush()
            _remember_best(study, trials)
            # Whoever plans from an older view is refused.
            study.plan_revision += 1
            study.result_seq += 1
            studies.add_event(study, "trial.excluded", {"number": number, "reason": reason}, now)
            if study.state == StudyState.COMPLETED:
                _ask_again(session, study, now)
        elif trial.excluded != reason:
            trial.excluded = reason
            studies.add_event(study, "trial.excluded", {"number": number, "reason": reason}, studies.now())
        session.flush()
        return TrialView(**present.trial_fields(trial))


def _check(reason: str) -> None:
    try:
        fine = 0 < len(clean_text(reason).strip()) <= MOST_REASON and not re.search(f"[{TURNING}]", reason)
    except SpecError:
        fine = False
    if not fine:
        detail = f"say why, in 1 to {MOST_REASON} characters, none of which turns text round"
        error = {"pointer": "/reason", "code": "invalid_reason", "detail": detail}
        raise ServiceError(422, "invalid_reason", detail, [error])


def _check_possible(study: Study, trial: Trial, trials: TrialRepository) -> None:
    if study.state == StudyState.CANCELLED:
        raise Conflict("study_cancelled", "the study was cancelled: it is not answered anew")
    if trial.state not in TRIAL_ENDED or trial.objective is None:
        raise Conflict("trial_not_ended", f"trial {trial.number} is {trial.state}: it has no result to leave out")
    if trial.stage == "confirm" and not trials.confirm_seeds(study.id) - {trial.seed}:
        raise Conflict("nothing_left", "without this run no seed is left on which every configuration was confirmed")


def _remember_best(study: Study, trials: TrialRepository) -> None:
    best = next((one for one in trials.best(study.id, 1) if one.metric is not None), None)
    study.best_objective = None if best is None else best.objective
    study.best_value, study.best_optimizer = (None, None) if best is None else (best.metric, best.optimizer)


def _ask_again(session: Session, study: Study, now: float) -> None:
    studies = StudyRepository(session)
    # The answer stays until there is another: if none comes, people learn what it was, and that it is older than this.
    studies.move(study, StudyState.RUNNING, finished_at=None, deadline=deadline_of(study.spec, now))
    study.stage = "confirm"
    studies.add_event(study, "study.state", {"state": study.state}, now)
