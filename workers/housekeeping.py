"""What has to be done now and then and holds nobody up: webhooks, retention, files that no study names any more."""

from __future__ import annotations

import logging
import threading
import time

from service.db import Database
from service.operations import artifacts, delivering, pruning, queue
from service.operations.artifact_folder import ArtifactFolder
from service.settings import Settings

log = logging.getLogger("whichopt.worker")

DAY_S = 24 * 3600.0
_busy = threading.Lock()
# When this process last looked at the files; the beginning of time at its start.
_looked = [float("-inf")]


def housekeep(database: Database, settings: Settings) -> None:
    """Do what is due. Many processes may do so at once."""
    delivering.deliver_due(database, settings.webhook_hosts)
    if settings.keep_days is not None:
        gone = pruning.prune(database, settings.keep_days * DAY_S)
        if gone:
            log.info("removed %s studies that ended more than %g days ago", len(gone), settings.keep_days)
    if time.monotonic() - _looked[0] > artifacts.EVERY_S:
        _looked[0] = time.monotonic()
        delivering.forget_old(database)
        queue.forget_old_use(database)
        artifacts.collect(database, ArtifactFolder(settings.artifacts), settings.artifact_days * DAY_S)


def housekeep_meanwhile(database: Database, settings: Settings) -> None:
    """The same in a thread, unless one is at it: a receiver that does not answer must not keep a worker from its work."""
    if _busy.acquire(blocking=False):
        threading.Thread(target=_run, args=(database, settings), name="housekeeping", daemon=True).start()


def _run(database: Database, settings: Settings) -> None:
    try:
        housekeep(database, settings)
    except Exception as error:
        # The next sweep tries again.
        log.warning("housekeeping: %s", error)
    finally:
        _busy.release()
