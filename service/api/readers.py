"""Requests that read a data set: a few at a time and of each project fewer, so that large files hold up nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.operations.errors import ServiceError

# Data sets that are read at a time: each may take a gigabyte and a processor.
MOST_READING = 3
# Of one project: others find a place whatever it sends.
MOST_READING_OF_ONE = 2
# Requests that wait for that; each occupies one of the threads that all requests share (``threads.MOST``).
MOST_WAITING = 16
MOST_WAITING_OF_ONE = 6


class Readers:
    """Those who read a data set now, or wait for their turn, each in a thread of its own."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._reading = Counter[str]()
        # In the order in which they came.
        self._waiting: list[tuple[str, object]] = []

    @contextmanager
    def turn(self, project: str) -> Iterator[None]:
        """Wait for a turn and read. Raises ServiceError 503 ``overloaded`` at once when too many wait already."""
        me = (project, object())
        with self._change:
            own = sum(1 for waits, _ in self._waiting if waits == project)
            self._waiting.append(me)
            if self._next() is not me and (own >= MOST_WAITING_OF_ONE or len(self._waiting) > MOST_WAITING):
                self._waiting.remove(me)
                raise ServiceError(503, "overloaded", "many data sets are being read right now; try again in a moment")
            self._change.wait_for(lambda: self._next() is me)
            self._waiting.remove(me)
            self._reading[project] += 1
            # There may be room for one more.
            self._change.notify_all()
        try:
            yield
        finally:
            with self._change:
                self._reading[project] -= 1
                if not self._reading[project]:
                    del self._reading[project]
                self._change.notify_all()

    def _next(self) -> tuple[str, object] | None:
        """Whose turn it is: of the project that reads least, who came first."""
        if self._reading.total() >= MOST_READING:
            return None
        free = [one for one in self._waiting if self._reading[one[0]] < MOST_READING_OF_ONE]
        return min(free, key=lambda one: self._reading[one[0]], default=None)
