"""The Celery tasks. Each may be lost, doubled or late: the database says what there is to do."""

from __future__ import annotations

from service.operations import planning
from workers.app import app
from workers.process import loop


@app.task(name="whichopt.pull")
def pull() -> None:
    """Train one unit, or get ready for the next; then ring again, because more may wait."""
    if loop().train_one() or loop().make_ready(planning.active_studies(loop().database)):
        loop().dispatcher.nudge("device")


@app.task(name="whichopt.advance")
def advance() -> None:
    """Plan every study that can go on."""
    from workers.advance import advance_ready

    advance_ready(loop().database, loop().dispatcher)


@app.task(name="whichopt.sweep")
def sweep() -> None:
    """Take back expired leases and ring for what waits."""
    from workers.sweep import sweep as run

    run(loop().database, loop().settings, loop().dispatcher)
