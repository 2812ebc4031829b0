"""Finished trials in the order in which they finished, read from a study's events and remembered between requests.

Events are never changed, so each request only reads those that are new: a page that refreshes twice a second costs the
database the same for a long study as for a short one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from service.db import Database
from service.operations.events import events_after
from service.operations.views import Event

BATCH = 5000
REMEMBERED_STUDIES = 64
# What these train is no search: the best of it, with other seeds and on other rows.
FRESH_STAGES = ("screen", "confirm")


@dataclass(frozen=True)
class Finish:
    """A searched trial that ended a rung. ``metric`` is on the validation split, None when the trial diverged."""

    number: int
    optimizer: str
    metric: float | None
    elapsed_s: float


@dataclass
class _History:
    last_id: int = 0
    started_at: float | None = None
    finishes: list[Finish] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(self, event: Event) -> None:
        self.last_id = event.id
        if self.started_at is None and event.type in ("unit.started", "unit.done", "trial.done"):
            self.started_at = event.at
        if event.type == "trial.done" and event.data.get("stage") not in FRESH_STAGES:
            data, start = event.data, self.started_at or event.at
            self.finishes.append(Finish(data["number"], data["optimizer"], data["metric"], event.at - start))
        if event.type == "trial.excluded":
            self.finishes = [one for one in self.finishes if one.number != event.data["number"]]


class Histories:
    """The histories of the most recently watched studies. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _History] = OrderedDict()
        self._lock = Lock()

    def read(self, database: Database, study_id: str) -> tuple[int, list[Finish]]:
        """The id of the last event and all finished searched trials, oldest first. NotFound where ``database`` has none."""
        with self._lock:
            history = self._known.setdefault(study_id, _History())
            self._known.move_to_end(study_id)
            while len(self._known) > REMEMBERED_STUDIES:
                self._known.popitem(last=False)
        with history.lock:
            while events := events_after(database, study_id, history.last_id, limit=BATCH):
                for event in events:
                    history.add(event)
            return history.last_id, list(history.finishes)
