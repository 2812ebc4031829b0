"""Keeps a lease alive while a unit trains, and tells the training loop when to stop."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from service.db import Database, DatabaseUnavailable
from service.logs import thread
from service.operations import queue


class Heartbeat:
    """Extends a lease from a thread of its own. Use as a context manager around the work.

    ``stopping``: set once the study is paused, cancelled or deleted, or the lease is gone. ``lost``: the result would be
    refused. A worker cut off from the database stops by its own monotonic clock when its lease must have run out.
    """

    def __init__(self, database: Database, unit_id: int, token: int, lease_s: float, every_s: float) -> None:
        self.database, self.unit_id, self.token = database, unit_id, token
        self.lease_s, self.every_s = lease_s, min(every_s, lease_s / 3)
        self.stopping, self.lost = threading.Event(), threading.Event()
        self._done = threading.Event()
        self._leased_from(time.monotonic(), time.time())
        self._thread = thread(self._run, f"heartbeat-{unit_id}")

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=10)

    @property
    def alive_until(self) -> float:
        """Monotonic time until which the lease is certainly ours, unless the database took it back."""
        return self._alive_until

    @property
    def ran_out(self) -> bool:
        """Whether the lease may have run out, by a clock that stands while the machine sleeps or by one that does not."""
        return time.monotonic() > self._alive_until or time.time() > self._alive_until_by_wall

    def give_up(self) -> None:
        """Whoever trains shall stop, and what it would hand in counts no more."""
        self._alive_until = 0.0
        self.lost.set()
        self.stopping.set()

    def _leased_from(self, now: float, by_wall: float) -> None:
        self._alive_until, self._alive_until_by_wall = now + self.lease_s, by_wall + self.lease_s

    def _run(self) -> None:
        while not self._done.wait(self.every_s):
            self.beat()
            if self.lost.is_set():
                return

    def beat(self) -> None:
        """Extend the lease once, and note what the database says."""
        asked = time.monotonic(), time.time()
        try:
            answer = queue.heartbeat(self.database, self.unit_id, self.token, self.lease_s)
        except DatabaseUnavailable:
            answer = "lost" if time.monotonic() > self._alive_until else "ok"
        else:
            if answer != "lost":
                self._leased_from(*asked)
        if answer == "lost":
            self.lost.set()
        if answer != "ok":
            self.stopping.set()
