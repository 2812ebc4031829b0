"""The janitor: expired leases go back to the queue, work that waits is announced again."""

from __future__ import annotations

import logging

from service.db import Database
from service.dispatch.base import Dispatcher
from service.logs import Outage
from service.operations import deadlines, queue
from service.settings import Settings
from workers.housekeeping import housekeep_meanwhile

log = logging.getLogger("whichopt.worker")
_nobody = Outage(log, "studies wait, and no worker trains")


def sweep(database: Database, settings: Settings, dispatcher: Dispatcher) -> None:
    """Take back expired leases, end what is past its deadline, then ring for every study and unit that waits: lost messages
    cost a sweep, no more.
    """
    late = deadlines.end_late(database)
    if late:
        log.info("past their deadline: studies %s", late)
    spent = deadlines.end_spent(database)
    if spent:
        log.info("without device seconds left: studies %s", spent)
    report = queue.sweep(database, settings.max_attempts)
    if report.requeued or report.failed:
        log.warning("taken back: units %s; given up: units %s", report.requeued, report.failed)
    if report.to_advance:
        dispatcher.nudge("control")
    if report.queued:
        dispatcher.nudge("device")
    if report.queued and not report.workers:
        _nobody.away("start one with `whichopt worker`, or choose a profile of the compose file (--profile cpu)")
    elif report.workers:
        _nobody.back()
    housekeep_meanwhile(database, settings)
