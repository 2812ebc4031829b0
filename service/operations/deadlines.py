"""Studies whose time is over, whoever was too slow: they end with the answer from what there is; and those that may use no
device any more.
"""

from __future__ import annotations

from service.db import Database
from service.db.repositories import StudyRepository
from service.db.repositories.studies import ACTIVE
from service.operations import access, results
from service.operations.studies import search_no_more


def end_late(db: Database) -> list[str]:
    """Let studies that are past their deadline finish; fail those of which nothing has ended, and those that had the same time
    again and have no answer yet. The ids of all that changed.
    """
    with db.read() as session:
        late = StudyRepository(session).late()
    changed = []
    for study_id in late:
        with db.write() as session:
            studies = StudyRepository(session)
            study, now = studies.lock(study_id), studies.now()
            if study is None or study.state not in ACTIVE or study.deadline is None or study.deadline >= now:
                continue
            if study.trials_done == 0:
                message = "its deadline passed before any trial had ended"
                done = results.fail(session, study, "deadline_passed", message, now)
            elif not study.finishing:
                done = search_no_more(session, study)
            elif now > study.deadline + study.spec["budget"]["deadline"]:
                message = "its deadline passed, and nobody confirmed what was found for as long again"
                done = results.fail(session, study, "deadline_passed", message, now)
            else:
                continue
            if done:
                changed.append(study_id)
    return changed


def end_spent(db: Database) -> list[str]:
    """Fail the studies that have units to train and whose projects have no device seconds left; their ids. What runs hands in
    its state: given more seconds, they can be resumed.
    """
    with db.read() as session:
        found = StudyRepository(session).under_device_quota()
        used_up = {project: access.device_used_up(session, project) for project in {project for _, project in found}}
    changed = []
    for study_id, project in found:
        if (message := used_up[project]) is None:
            continue
        with db.write() as session:
            studies = StudyRepository(session)
            study = studies.lock(study_id)
            if study is not None and study.state in ACTIVE:
                results.fail(session, study, "quota_exceeded", message, studies.now())
                changed.append(study_id)
    return changed
