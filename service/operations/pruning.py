"""Retention: studies that ended long ago are removed, in transactions of bounded length."""

from __future__ import annotations

from service.db import Database
from service.db.repositories import AccessRepository, PruneRepository, StudyRepository

ROWS, BATCHES = 5000, 20


def prune(db: Database, keep_s: float, rows: int = ROWS, batches: int = BATCHES) -> list[str]:
    """Remove studies that ended more than ``keep_s`` seconds ago; the ids of those that are gone.

    Each transaction removes at most ``rows`` of what is large, and there are at most ``batches`` of them: the rest comes the
    next time.
    """
    gone = []
    for _ in range(batches):
        with db.write() as session:
            studies, pruning = StudyRepository(session), PruneRepository(session)
            study_id = pruning.oldest_ended(studies.now() - keep_s)
            study = None if study_id is None else studies.lock(study_id)
            if study is None:
                return gone
            if not (pruning.drop_curves(study.id, rows) or pruning.drop_events(study.id, rows)):
                gone.append(study.id)
                AccessRepository(session).keep_spent(study)
                studies.delete(study)
    return gone
