"""Studies whose time is over, whoever was too slow: they end with the answer from what there is."""

from __future__ import annotations

from service.db import Database
from service.db.repositories import StudyRepository
from service.db.repositories.studies import ACTIVE
from service.operations import results
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
