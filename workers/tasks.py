"""The Celery tasks. Each may be lost, doubled or late: the database says what there is to do."""

from __future__ import annotations

from contextlib import suppress

from service.db import DatabaseUnavailable
from service.operations.artifact_folder import ArtifactFolder
from service.operations.checking import check_waiting
from workers.app import PULL_LIMIT_S, app, settings
from workers.process import loop


@app.task(name="whichopt.pull", time_limit=PULL_LIMIT_S)
def pull() -> None:
    """Wake the thread that trains, and stay while it has work, so that bells go to processes that are idle. After a quantum the
    task ends in any case; what is being trained goes on, however long it takes.
    """
    loop().ring(settings.quantum_s)


@app.task(name="whichopt.advance")
def advance() -> None:
    """Check the data of every study that waits for it, and plan every one that can go on."""
    from workers.advance import advance_ready

    with suppress(DatabaseUnavailable):  # the next sweep rings again
        check_waiting(loop().database, settings.roots, ArtifactFolder(settings.artifacts))
        advance_ready(loop().database, loop().dispatcher)


@app.task(name="whichopt.sweep")
def sweep() -> None:
    """Take back expired leases and ring for what waits."""
    from workers.sweep import sweep as run

    with suppress(DatabaseUnavailable):
        run(loop().database, loop().settings, loop().dispatcher)
