"""The life of one small study in one process: a client uploads, asks, pauses and goes on; a worker checks, plans and trains.

Every step may be repeated after a kill, as clients and workers do.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import text

from optim_core.search import rungs
from optim_core.spec.states import STUDY_ENDED, StudyState
from optim_core.spec.validation import parse_spec
from service.db import Database
from service.operations import artifacts, events, studies, webhooks
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import Received
from service.operations.errors import Conflict
from service.settings import Settings
from tests.reliability.commit_points import CommitPoints
from tests.reliability.history import Call, read, violations
from workers import housekeeping, local, loop, runner, sweep

# Long, so that no heartbeat and no second sweep comes at a time of its own.
SLOW_S = 3600.0
NAME, KEY = "swept", "once"
SPEC: dict[str, Any] = {
    "name": NAME,
    "model": {"kind": "catalogue", "name": "linear"},
    "dataset": {"kind": "builtin", "name": "digits"},
    "training": {"steps": 16},
    "search": {"optimizers": ["momentum"]},
    "budget": {"trials": 3, "seeds": 2},
}
CONTENT = b"x,y\n1,2\n3,4\n"
# Nobody listens there: the delivery is tried once and waits.
RECEIVER = "http://127.0.0.1:9"


def settings_of(url: str, folder: Path) -> Settings:
    return Settings(
        data_dir=folder, database_url=url, lease_s=SLOW_S, heartbeat_s=SLOW_S, sweep_s=SLOW_S, quantum_s=SLOW_S, poll_s=0.01,
        webhook_hosts=[RECEIVER],
    )  # fmt: skip


def prepare() -> None:
    """Make what depends on time happen at set places, once in a process before any fork: runs have the same commits then."""
    rungs.SHORTEST_RUNG = 4  # two rungs in sixteen steps
    sweep.housekeep_meanwhile = housekeeping.housekeep
    on_chunk = runner._Work.on_chunk

    def at_set_places(self: Any, step: int, points: Any, checkpoint: Any) -> bool:
        middle = step >= self.claim.unit.horizon / 2 and not hasattr(self, "was_in_the_middle")
        if middle:
            self.was_in_the_middle = True
        # In the middle of a unit: progress, a checkpoint, and of the search's the end of a turn.
        self.reported_at = self.saved_at = -math.inf if middle else math.inf
        self.turn._until = 0.0 if middle and self.claim.unit.kind == "train" else math.inf
        return on_chunk(self, step, points, checkpoint)

    runner._Work.on_chunk = at_set_places


def live(
    url: str, folder: Path, *, points: CommitPoints | None = None, at_end: Callable[[Database], None] | None = None
) -> NoReturn:
    """Do what is left to do of the study, then call ``at_end`` and leave. In a process of its own."""
    if points is not None:
        points.install()
    settings = settings_of(url, folder)
    database = Database(url)
    study_id = _ask(database, settings, folder / "calls")
    turn, turns = loop.Loop.turn, 0

    def then_look(self: loop.Loop) -> bool:
        nonlocal turns
        worked, turns = turn(self), turns + 1
        state = studies.get_study(database, study_id).status
        if state in STUDY_ENDED:
            self._sweep_at = 0.0
            turn(self)
            if at_end is not None:
                at_end(database)
            os.kill(os.getpid(), signal.SIGTERM)
        elif turns == 4 or state == StudyState.PAUSED:
            _pause_and_resume(database, study_id)
        return worked

    loop.Loop.turn = then_look
    local.work(settings)
    local.leave(0)


def _ask(database: Database, settings: Settings, calls: Path) -> str:
    folder = ArtifactFolder(settings.artifacts)
    received = folder.coming()
    received.write_bytes(CONTENT)
    upload = Received(received, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "table.csv")
    artifacts.store(database, folder, upload, lambda *_: "a table")
    if not webhooks.list_all(database):
        webhooks.create(database, f"{RECEIVER}/", [RECEIVER])
    with calls.open("a") as log:
        print("?", file=log, flush=True)
        made = studies.create_study(database, parse_spec(SPEC), idempotency_key=KEY, to_check=True)
        print(made.id, file=log, flush=True)
    return made.id


def _pause_and_resume(database: Database, study_id: str) -> None:
    for step in (studies.pause_study, studies.resume_study):
        with suppress(Conflict):
            step(database, study_id)


def calls_of(path: Path) -> list[Call]:
    """What the client noted: a question mark before each POST, the answer after it."""
    calls: list[Call] = []
    for line in path.read_text().split() if path.exists() else ():
        if line == "?":
            calls.append(Call(KEY, NAME, "unknown"))
        else:
            calls[-1] = Call(KEY, NAME, "ok", line)
    return calls


def move_clock(database: Database) -> None:
    """What is leased to a process that was killed ends now, instead of in an hour."""
    with database.write() as session:
        session.execute(text("UPDATE unit SET lease_until = 0 WHERE lease_until IS NOT NULL"))
        session.execute(text("UPDATE study SET check_until = 0 WHERE check_until IS NOT NULL"))
        session.execute(text("UPDATE delivery SET next_at = 0"))


def leased(database: Database) -> list[str]:
    """Keys of units that somebody holds."""
    with database.read() as session:
        return list(session.scalars(text("SELECT key FROM unit WHERE state = 'leased'")))


def most_attempts(database: Database) -> int:
    """Of any claim there was."""
    found = [
        event.data["attempt"]
        for study in studies.list_studies(database).items
        for event in events.events_after(database, study.id, 0, limit=5000)
        if event.type == "unit.started"
    ]
    return max(found, default=0)


def report(database: Database, folder: Path, expected: dict[str, Any] | None) -> dict[str, Any]:
    """The answer, and what breaks a rule. ``expected``: the answer of the undisturbed run."""
    undisturbed = None if expected is None else {NAME: expected}
    history = read(database, folder=folder / "artifacts", calls=calls_of(folder / "calls"), undisturbed=undisturbed)
    # A file that was being received when its process was killed is removed after a day.
    coming = history.folder / ".coming" if history.folder is not None else None
    found = [said for said in violations(history) if not said.startswith("H8: .coming/")]
    [answer] = history.answers.values()
    return {
        "answer": json.loads(json.dumps(answer)), "violations": found, "attempts": most_attempts(database),
        "left": 0 if coming is None or not coming.is_dir() else len(list(coming.iterdir())),
    }  # fmt: skip
