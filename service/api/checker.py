"""Checks data sets in this process, where no broker rings for one that does it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from service.db import Database, DatabaseUnavailable
from service.logs import thread
from service.operations.artifact_folder import ArtifactFolder
from service.operations.checking import check_waiting

log = logging.getLogger("whichopt.check")


class Checker:
    """One thread at most, and only while a study waits to be checked."""

    def __init__(self, database: Database, roots: Sequence[str] | None, folder: ArtifactFolder) -> None:
        self._database, self._roots, self._folder = database, roots, folder
        self._lock = threading.Lock()
        self._running = self._again = False

    def wake(self) -> None:
        """A study was stored that is to be checked."""
        with self._lock:
            self._again = True
            if self._running:
                return
            self._running = True
        thread(self._run, "checker").start()

    def _run(self) -> None:
        while self._goes_on():
            try:
                check_waiting(self._database, self._roots, self._folder)
            except DatabaseUnavailable:
                continue  # local workers look with each sweep
            except Exception:
                log.exception("checking studies")

    def _goes_on(self) -> bool:
        with self._lock:
            self._running, self._again = self._again, False
            return self._running
