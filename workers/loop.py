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
from service.operations import planning, queue
from service.settings import Settings
from workers.advance import advance_all, advance_ready
from workers.ahead import Ahead
from workers.runner import never, run_one
from workers.sweep import sweep
from workers.watchdog import end_thread

log = logging.getLogger("whichopt.worker")

SHORTEST_WAIT_S = 0.05
LONGEST_OUTAGE_WAIT_S = 5.0


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
        # Whether this process may hold a unit.
        self.holds = False
        self.ahead = Ahead(database, settings)
        self._sweep_at = 0.0

    def turn(self) -> bool:
        """Sweep when due, plan what can be planned, train one unit, else get ready for one. False when nothing was to do."""
        if time.monotonic() >= self._sweep_at:
            sweep(self.database, self.settings, self.dispatcher)
            if self.trains:
                queue.worker_seen(self.database, self.worker)
            self._sweep_at = time.monotonic() + self.settings.sweep_s
        active = planning.active_studies(self.database, self.study_id)
        planned = advance_all(self.database, self.dispatcher, active)
        return self.train_one() or planned > 0 or self.make_ready(active)

    def train_one(self) -> bool:
        """Run one unit and plan what follows from it. False when there is none, or when this process trains already."""
        if not self.trains or self.stop() or not self.busy.acquire(blocking=False):
            return False
        self.holds = True
        try:
            ended = run_one(
                self.database, self.settings, self.worker, study_id=self.study_id, stop=self.stop, abandon=self.abandon
            )
            if ended is not None:
                self.ahead.trained(ended[1])
        finally:
            self.holds = False
            self.busy.release()
        if ended is None:
            return False
        advance_ready(self.database, self.dispatcher, self.study_id)
        return True

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
            self._take_turns()
        finally:
            if self.trains:
                with suppress(DatabaseUnavailable):
                    queue.worker_gone(self.database, self.worker)

    def _take_turns(self) -> None:
        wait = outage = SHORTEST_WAIT_S
        while not self.stop():
            try:
                worked = self.turn()
            except Exception as error:
                # A worker outlives everything it meets: it waits and looks again.
                log.warning("%s; waiting", error, exc_info=not isinstance(error, DatabaseUnavailable))
                self._pause(outage * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                outage = min(outage * 2, LONGEST_OUTAGE_WAIT_S)
                continue
            outage = SHORTEST_WAIT_S
            wait = SHORTEST_WAIT_S if worked else min(wait * 1.5, self.longest_wait_s)
            if not worked:
                self._pause(wait)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.stop() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SHORTEST_WAIT_S))
