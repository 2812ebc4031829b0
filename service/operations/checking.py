"""Whether the data of new studies can be read and fit their model: found out once they are stored, by whoever has time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

from optim_core.spec.errors import SpecError
from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState
from service.db import Database, DatabaseUnavailable
from service.db.repositories import StudyRepository
from service.logs import bound_contextvars, thread
from service.operations import results
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import inspect_here
from service.operations.errors import ServiceError, field_errors

log = logging.getLogger("whichopt.check")

# A check belongs to its process for so long without a sign of life; it is tried so often.
LEASE_S, TRIES = 60.0, 3


@dataclass(frozen=True)
class Check:
    """A study whose data are to be read by the caller. ``attempt``: counts from 1, and dates the right to say the outcome."""

    study_id: str
    project_id: str
    spec: StudySpec
    attempt: int


def check_waiting(
    db: Database, roots: Sequence[str] | None, folder: ArtifactFolder, study_id: str | None = None
) -> int:
    """Check all studies that wait for it (or this one); how many. ``roots``: see ``inspection.inspect``; ``folder``: where
    uploaded files lie.

    Each then is ``queued``, or ``failed`` with the pointers of what is wrong. Raises DatabaseUnavailable.
    """
    done, served = 0, set[str]()
    while (check := _claim(db, study_id, served)) is not None:
        # One project's tables, each of which may take minutes, do not hold up those of all others.
        served = {check.project_id} if check.project_id in served else served | {check.project_id}
        with bound_contextvars(study=check.study_id), _kept(db, check):
            _run(db, check, roots, folder)
        done += 1
    return done


def _claim(db: Database, study_id: str | None, served: Set[str] = frozenset()) -> Check | None:
    with db.read() as session:
        if not StudyRepository(session).any_to_check(study_id):
            return None
    with db.write() as session:
        studies = StudyRepository(session)
        study = studies.next_to_check(study_id, served)
        if study is None:
            return None
        study.check_tries += 1
        study.check_until = studies.now() + LEASE_S
        spec = StudySpec.model_validate_json(canonical_json(study.spec))
        return Check(study.id, study.project_id, spec, study.check_tries)


@contextmanager
def _kept(db: Database, check: Check) -> Iterator[None]:
    """Nobody else begins the check meanwhile, however long it takes."""
    ended = threading.Event()

    def extend() -> None:
        while not ended.wait(LEASE_S / 4):
            try:
                with db.write() as session:
                    StudyRepository(session).extend_check(check.study_id, check.attempt, LEASE_S)
            except DatabaseUnavailable:
                continue

    keeper = thread(extend, f"check-{check.study_id}")
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _run(db: Database, check: Check, roots: Sequence[str] | None, folder: ArtifactFolder) -> None:
    try:
        if check.attempt > TRIES:
            raise ServiceError(422, "check_failed", "those who read the data set were ended by it, several times")
        inspect_here(db, folder, check.spec, roots)
    except (SpecError, ServiceError) as error:
        errors = error.errors if isinstance(error, ServiceError) else field_errors(error)
        _end(db, check, error.code, str(error), errors)
    except Exception:
        log.exception("a data set could not be checked")
        _end(db, check, "check_failed", "the data set could not be read; the log of the service says why", [])
    else:
        _end(db, check)


def _end(
    db: Database, check: Check, code: str | None = None, message: str = "", errors: Sequence[dict[str, str]] = ()
) -> None:
    """Say the outcome, unless the study was cancelled or somebody else is checking it by now."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = studies.lock(check.study_id)
        if study is None or study.state != StudyState.CHECKING or study.check_tries != check.attempt:
            return
        study.check_until = None
        now = studies.now()
        if code is not None:
            study.error_details = list(errors)
            results.fail(session, study, code, message, now)
        elif studies.move(study, StudyState.QUEUED):
            studies.add_event(study, "study.state", {"state": study.state}, now)
