"""Whoever waits for a study waits here: one thread looks for all of them, and less often while nothing happens."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

from service.db import Database, DatabaseUnavailable
from service.logs import thread
from service.operations.access import Caller
from service.operations.events import Head, look, opening_keys
from service.operations.views import Event

log = logging.getLogger("whichopt.api")

# A study is looked at so soon after it was asked for, so soon after something happened, and at last so often. Halves of each
# other: those that wait alike are looked at together.
FIRST_S, SOON_S, LAST_S = 1 / 16, 1 / 8, 1.0
KEYS_S = 1.0
# Events of a study that are kept for those who listen; who is further behind reads by itself.
KEPT = 500


@dataclass(frozen=True)
class Heard:
    """All events of a study with an id above ``since``, up to ``head.last``. ``head``: None once there is no such study."""

    since: int
    events: tuple[Event, ...]
    head: Head | None

    @property
    def ended(self) -> bool:
        """Whether nothing will follow these events."""
        return self.head is not None and self.head.ended


@dataclass(eq=False)
class _Topic:
    watches: set[Watch] = field(default_factory=set)
    heard: Heard | None = None
    look_s: float = FIRST_S
    due: float = 0.0


class Watch:
    """One who waits for news of a study, in the loop that made it. ``shut``: its key opens nothing any more, or this server
    ends: nothing more will be heard here.
    """

    def __init__(self, topic: _Topic, key_id: str | None) -> None:
        self._topic, self.key_id = topic, key_id
        self._moved, self.loop = asyncio.Event(), asyncio.get_running_loop()
        self.shut = False

    async def moved(self, longest_s: float) -> None:
        """Until something happened since this returned last, or since the beginning; at most so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), longest_s)
        self._moved.clear()

    async def heard(self, last: int) -> Heard | None:
        """What is known, once that is more than the events up to ``last``. None: nothing may be heard any more."""
        while not self.shut:
            heard = self._topic.heard
            if heard is not None and heard.head is None:
                return None
            if heard is not None and heard.head is not None and (heard.head.last > last or heard.ended):
                return heard
            await self._moved.wait()
            self._moved.clear()
        return None

    def tell(self) -> None:
        """Something happened. In the loop's own thread."""
        self._moved.set()


class Hub:
    """One thread at most, and only while somebody waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._topics: dict[str, _Topic] = {}
        self._running = self._closed = False

    @contextmanager
    def watch(self, study_id: str, caller: Caller) -> Iterator[Watch]:
        """Wait for news of a study that the caller may see, and that is looked at at once."""
        with self._changed:
            topic = self._topics.setdefault(study_id, _Topic())
            topic.look_s, topic.due = FIRST_S, 0.0
            watch = Watch(topic, caller.key_id)
            watch.shut = self._closed
            topic.watches.add(watch)
            if self._running:
                self._changed.notify()
            else:
                self._running = True
                thread(self._run, "hub").start()
        try:
            yield watch
        finally:
            with self._changed:
                topic.watches.discard(watch)
                if not topic.watches:
                    self._topics.pop(study_id, None)
                    self._changed.notify()

    def close(self) -> None:
        """End what waits and what will: this server ends, and whoever listens comes back to the next one."""
        with self._changed:
            self._closed = True
            watches = [watch for topic in self._topics.values() for watch in topic.watches]
            for watch in watches:
                watch.shut = True
        _tell(watches)

    def _run(self) -> None:
        keys_due = 0.0
        while (due := self._due(keys_due)) is not None:
            try:
                if keys_due <= monotonic():
                    keys_due = monotonic() + KEYS_S
                    self._check_keys()
                if due:
                    self._look(due)
            except DatabaseUnavailable:
                self._later(due)
            except Exception:
                log.exception("looking for news")
                self._later(due)

    def _due(self, keys_due: float) -> dict[str, _Topic] | None:
        """Sleep until it is time to look; at which studies. None: nobody waits any more."""
        with self._changed:
            while self._topics:
                now = monotonic()
                due = {study_id: topic for study_id, topic in self._topics.items() if topic.due <= now}
                if due or keys_due <= now:
                    return due
                self._changed.wait(min(keys_due, *(topic.due for topic in self._topics.values())) - now)
            self._running = False
            return None

    def _look(self, due: dict[str, _Topic]) -> None:
        before = {study_id: topic.heard for study_id, topic in due.items()}
        found = look(self._database, {study_id: heard and heard.head for study_id, heard in before.items()}, KEPT)
        moved: list[Watch] = []
        with self._changed:
            for study_id, topic in due.items():
                head, events = found.get(study_id, (None, ()))
                heard = before[study_id]
                if heard is not None and heard.head == head:
                    topic.look_s = min(2 * topic.look_s, LAST_S)
                else:
                    topic.heard = _with(heard, head, events)
                    topic.look_s = SOON_S if heard is not None else topic.look_s
                    moved += topic.watches
                topic.due = (monotonic() // topic.look_s + 1) * topic.look_s
        _tell(moved)

    def _check_keys(self) -> None:
        with self._changed:
            watches = [watch for topic in self._topics.values() for watch in topic.watches if watch.key_id is not None]
        ids = {watch.key_id for watch in watches if watch.key_id is not None}
        if ids:
            valid = opening_keys(self._database, ids)
            shut = [watch for watch in watches if watch.key_id not in valid]
            for watch in shut:
                watch.shut = True
            _tell(shut)

    def _later(self, due: dict[str, _Topic]) -> None:
        # Whoever listens goes on as soon as the database does.
        with self._changed:
            for topic in due.values():
                topic.due = monotonic() + LAST_S


def _with(heard: Heard | None, head: Head | None, events: tuple[Event, ...]) -> Heard:
    if heard is None or head is None:
        return Heard(0 if head is None else head.last, (), head)
    kept = (*heard.events, *events)[-KEPT:]
    return Heard(kept[0].id - 1 if kept else heard.since, kept, head)


def _tell(watches: Iterable[Watch]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[Watch]] = {}
    for watch in watches:
        loops.setdefault(watch.loop, []).append(watch)
    for loop, own in loops.items():
        with suppress(RuntimeError):  # a loop that has ended meanwhile
            loop.call_soon_threadsafe(lambda own=own: [watch.tell() for watch in own])
