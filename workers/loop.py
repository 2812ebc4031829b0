"""What a worker does when nobody rings: sweep, plan, train. Local processes live on it, Celery workers fall back on it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from service.db import Database, DatabaseUnavailable
from service.dispatch.base import Dispatcher
from service.logs import bound_contextvars
from service.operations import planning, queue
from service.operations.artifact_folder import ArtifactFolder
from service.operations.checking import check_waiting
from service.operations.overtaking import aside_s
from service.settings import Settings
from workers.advance import advance_all, advance_ready
from workers.ahead import Ahead
from workers.runner import Outcome, never, run_one
from workers.sweep import sweep
from workers.turn import Turn
from workers.watchdog import end_thread

log = logging.getLogger("whichopt.worker")

SHORTEST_WAIT_S = 0.05
LONGEST_OUTAGE_WAIT_S = 5.0
# An idle worker looks for work several times a second, for slower workers than itself every so many seconds.
OVERTAKE_S = 5.0


class Loop:
    """Takes turns at a database until told to stop.

    ``trains``: whether it runs units, or only plans. ``study_id``: when set, only this study is worked on.
    ``abandon``: see ``runner.run_one``. ``longest_wait_s``: pause between looks once nothing was found for a while.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        dispatcher: Dispatcher,
        worker: str,
        *,
        trains: bool = True,
        stop: Callable[[], bool] = never,
        abandon: Callable[[int], None] = end_thread,
        longest_wait_s: float,
    ) -> None:
        self.database, self.settings, self.dispatcher, self.worker = database, settings, dispatcher, worker
        self.trains, self.stop, self.longest_wait_s = trains, stop, longest_wait_s
        self.abandon = abandon
        self.study_id: str | None = None
        # One unit at a time in a process, whoever asks: the loop's thread or a Celery task.
        self.busy = threading.Lock()
        # How many units in a row a faster worker has taken, and how long this one therefore counts as slow.
        self._overtaken, self._slow_until = 0, 0.0
        self._overtake_at = time.monotonic() + OVERTAKE_S
        # Whether this process may hold a unit.
        self.holds = False
        self.ahead = Ahead(database, settings)
        self.own_turn = Turn(settings.quantum_s)
        self._bell, self._idle, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._ringing = threading.Lock()
        self._sweep_at = 0.0

    def turn(self) -> bool:
        """Sweep when due, plan what can be planned, train one unit, else get ready for one. False when nothing was to do."""
        if time.monotonic() >= self._sweep_at:
            if self.trains:
                queue.worker_seen(self.database, self.worker)
            sweep(self.database, self.settings, self.dispatcher)
            check_waiting(self.database, self.settings.roots, ArtifactFolder(self.settings.artifacts), self.study_id)
            self._sweep_at = time.monotonic() + self.settings.sweep_s
        active = planning.active_studies(self.database, self.study_id)
        planned = advance_all(self.database, self.dispatcher, active)
        return self.train_one() or planned > 0 or self.make_ready(active)

    def train_one(self) -> bool:
        """Run one unit and plan what follows from it. False when there is none, or when this process trains already."""
        if not self.trains or self.stop() or not self.busy.acquire(blocking=False):
            return False
        self.holds = True
        overtake = time.monotonic() >= self._overtake_at
        if overtake:
            self._overtake_at = time.monotonic() + OVERTAKE_S
        try:
            ended = run_one(
                self.database, self.settings, self.worker, study_id=self.study_id, stop=self.stop,
                abandon=self.abandon, turn=self.own_turn, slow=time.monotonic() < self._slow_until,
                overtake=overtake,
            )  # fmt: skip
            if ended is not None:
                self._compare(ended[0])
                self.ahead.trained(ended[1])
                self._look_round(*ended)
        finally:
            self.holds = False
            self.busy.release()
        if ended is None:
            return False
        advance_ready(self.database, self.dispatcher, self.study_id)
        return True

    def _compare(self, outcome: Outcome) -> None:
        """Whether others are much faster than this worker."""
        if outcome is Outcome.OVERTAKEN:
            self._slow_until = time.monotonic() + aside_s(self._overtaken)
            self._overtaken += 1
        else:
            self._overtaken, self._slow_until = 0, 0.0

    def _look_round(self, outcome: Outcome, study_id: str) -> None:
        """After a turn of one study, in one unit or in many, others come first."""
        if not self.own_turn.over:
            return
        if outcome is Outcome.RELEASED:
            self.dispatcher.nudge("device")  # it waits for whoever is free
        else:
            queue.end_turn(self.database, study_id)
        self.own_turn.again()

    def ring(self, longest_s: float) -> None:
        """Look for work at once, and return when there is no more, or after ``longest_s``."""
        with self._ringing:
            self._idle.clear()
            self._bell.set()
        if not self._ended.is_set():
            self._idle.wait(longest_s)

    def make_ready(self, active: Collection[str]) -> bool:
        """Get ready for a unit of the ``active`` studies. False when there was nothing to do, or this process is busy."""
        if not self.trains or self.stop() or not self.busy.acquire(blocking=False):
            return False
        try:
            return self.ahead.make_ready(active)
        finally:
            self.busy.release()

    def run(self) -> None:
        """Take turns until ``stop``. Outages of the database are waited out."""
        try:
            with bound_contextvars(worker=self.worker):
                self._take_turns()
        finally:
            # Nobody who rang waits for it any longer.
            self._ended.set()
            self._idle.set()
            if self.trains:
                with suppress(DatabaseUnavailable):
                    queue.worker_gone(self.database, self.worker)

    def _take_turns(self) -> None:
        wait = outage = SHORTEST_WAIT_S
        while not self.stop():
            self._bell.clear()
            try:
                worked = self.turn()
            except Exception as error:
                # A worker outlives everything it meets: it waits and looks again.
                if not isinstance(error, DatabaseUnavailable):  # of which its handle tells
                    log.exception("waiting")
                self._pause(outage * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                outage = min(outage * 2, LONGEST_OUTAGE_WAIT_S)
                continue
            outage = SHORTEST_WAIT_S
            wait = SHORTEST_WAIT_S if worked else min(wait * 1.5, self.longest_wait_s)
            if not worked and self._pause(wait):
                wait = SHORTEST_WAIT_S

    def _pause(self, seconds: float) -> bool:
        """Wait; True when somebody rang."""
        until = time.monotonic() + seconds
        while not self.stop() and (left := until - time.monotonic()) > 0:
            if self._bell.wait(min(left, SHORTEST_WAIT_S)):
                return True
            with self._ringing:
                # A bell that was not heard yet is work.
                if not self._bell.is_set():
                    self._idle.set()
        return False
