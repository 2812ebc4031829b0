"""The janitor: expired leases go back to the queue, work that waits is announced again."""

from __future__ import annotations

import logging

from service.db import Database
from service.dispatch.base import Dispatcher
from service.operations import queue
from service.settings import Settings

log = logging.getLogger("whichopt.worker")


def sweep(database: Database, settings: Settings, dispatcher: Dispatcher) -> None:
    """Take back expired leases, then ring for every study and unit that waits: lost messages cost a sweep, no more."""
    report = queue.sweep(database, settings.max_attempts)
    if report.requeued or report.failed:
        log.warning("taken back: units %s; given up: units %s", report.requeued, report.failed)
    if report.to_advance:
        dispatcher.nudge("control")
    if report.queued:
        dispatcher.nudge("device")
