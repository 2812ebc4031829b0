"""How a search goes, read from a study's events and remembered between requests.

Events are never changed, so each request only reads those that are new, and what a page shows of the others is kept: a page
that refreshes twice a second costs the same for a study of a hundred thousand trials as for one of a hundred.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from service.db import Database
from service.operations.events import Happened, happened_after

BATCH = 5000
REMEMBERED_STUDIES = 64
# What these train is no search: the best of it, with other seeds and on other rows.
FRESH_STAGES = ("screen", "confirm")
# Trials that are drawn as dots.
MOST_DOTS = 400


@dataclass(frozen=True)
class Finish:
    """A searched trial that ended a rung. ``metric`` is on the validation split, None when the trial diverged. ``place``: 1 for
    the first that ended.
    """

    place: int
    number: int
    optimizer: str
    metric: float | None
    elapsed_s: float


@dataclass(frozen=True)
class OfOptimizer:
    """What an optimizer came to: its ``least`` and ``greatest`` metric, its trials and how many of them diverged."""

    least: float | None
    greatest: float | None
    trials: int
    diverged: int


@dataclass(frozen=True)
class Searched:
    """What a page shows of a search. ``dots``: some of the trials with a metric, evenly spread, first and last among them;
    ``least`` and ``greatest``: those that were better than all before them, by direction; ``last``: the last that ended.
    """

    last: Finish | None = None
    dots: tuple[Finish, ...] = ()
    least: tuple[Finish, ...] = ()
    greatest: tuple[Finish, ...] = ()
    optimizers: dict[str, OfOptimizer] = field(default_factory=dict)


@dataclass
class _Tally:
    least: float | None = None
    greatest: float | None = None
    trials: set[int] = field(default_factory=set)
    diverged: set[int] = field(default_factory=set)


class Search:
    """Searched trials in the order in which they ended."""

    def __init__(self, finishes: Iterable[Finish] = ()) -> None:
        self._all: list[Finish] = []
        self._scored: list[Finish] = []
        self._least: list[Finish] = []
        self._greatest: list[Finish] = []
        self._tallies: dict[str, _Tally] = {}
        for one in finishes:
            self.add(one.number, one.optimizer, one.metric, one.elapsed_s)

    def add(self, number: int, optimizer: str, metric: float | None, elapsed_s: float) -> None:
        """Note one more."""
        finish = Finish(len(self._all) + 1, number, optimizer, metric, elapsed_s)
        self._all.append(finish)
        tally = self._tallies.setdefault(optimizer, _Tally())
        tally.trials.add(number)
        if metric is None:
            tally.diverged.add(number)
            return
        self._scored.append(finish)
        tally.least = metric if tally.least is None else min(tally.least, metric)
        tally.greatest = metric if tally.greatest is None else max(tally.greatest, metric)
        if not self._least or metric < (self._least[-1].metric or 0.0):
            self._least.append(finish)
        if not self._greatest or metric > (self._greatest[-1].metric or 0.0):
            self._greatest.append(finish)

    def without(self, number: int) -> Search:
        """As if this trial had never been."""
        return Search(one for one in self._all if one.number != number)

    def seen(self) -> Searched:
        """As it is now."""
        return Searched(
            last=self._all[-1] if self._all else None,
            dots=tuple(_evenly(self._scored, MOST_DOTS)),
            least=tuple(self._least),
            greatest=tuple(self._greatest),
            optimizers={
                name: OfOptimizer(tally.least, tally.greatest, len(tally.trials), len(tally.diverged))
                for name, tally in self._tallies.items()
            },
        )


def _evenly(found: Sequence[Finish], limit: int) -> list[Finish]:
    """At most ``limit``, evenly chosen, with the first and the last."""
    if len(found) <= limit:
        return list(found)
    stride = (len(found) - 1) / (limit - 1)
    return [found[round(i * stride)] for i in range(limit)]


@dataclass
class _History:
    last_id: int = 0
    started_at: float | None = None
    search: Search = field(default_factory=Search)
    lock: Lock = field(default_factory=Lock)

    def add(self, event: Happened) -> None:
        self.last_id = event.id
        if self.started_at is None and event.type in ("unit.started", "unit.done", "trial.done"):
            self.started_at = event.at
        data = event.data
        if event.type == "trial.done" and data.get("stage") not in FRESH_STAGES:
            self.search.add(data["number"], data["optimizer"], data["metric"], event.at - (self.started_at or event.at))
        if event.type == "trial.excluded":
            self.search = self.search.without(data["number"])


class Histories:
    """The histories of the most recently watched studies. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _History] = OrderedDict()
        self._lock = Lock()

    def read(self, database: Database, study_id: str) -> tuple[int, Searched]:
        """The id of the last event, and how the search goes. NotFound where ``database`` has no such study."""
        with self._lock:
            history = self._known.setdefault(study_id, _History())
            self._known.move_to_end(study_id)
            while len(self._known) > REMEMBERED_STUDIES:
                self._known.popitem(last=False)
        with history.lock:
            while events := happened_after(database, study_id, history.last_id, limit=BATCH):
                for event in events:
                    history.add(event)
            return history.last_id, history.search.seen()
