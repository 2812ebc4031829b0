"""Eight processes write to one SQLite file while one after another is killed: nobody is told that it is locked."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from service.db import Database
from tests.reliability.history import read, violations

KILLS, WRITERS = 10, 8
WRITE = """
import sys
from service.db import Database
from service.operations import planning, queue, studies
from tests.db.support import make_result, make_spec, make_unit

database, acknowledged = Database(sys.argv[1]), open(sys.argv[2], "a")
while True:
    study = studies.create_study(database, make_spec()).id
    print(study, file=acknowledged, flush=True)
    planning.apply_plan(database, study, [make_unit("a", [0, 1])], "test")
    claim = queue.claim_unit(database, "writer", 60.0, study)
    queue.save_checkpoint(database, claim.unit_id, claim.token, b"state")
    queue.complete_unit(database, claim.unit_id, claim.token, make_result(claim.unit))
    studies.cancel_study(database, study)
"""


@pytest.mark.timeout(1200)
def test_killed_writers_leave_a_whole_database_and_nobody_finds_it_locked(tmp_path: Path, sqlite: Database) -> None:
    acknowledged, draw = tmp_path / "acknowledged", random.Random(0)
    acknowledged.touch()
    errors = (tmp_path / "errors").open("wb")

    def writer() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WRITE, sqlite.url, str(acknowledged)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=errors)

    writers = [writer() for _ in range(WRITERS)]
    try:
        seen = 0
        for _ in range(KILLS):
            # Each kill hits processes that write, however long they took to start.
            deadline = time.monotonic() + 300
            while len(acknowledged.read_text().splitlines()) < seen + WRITERS:
                assert time.monotonic() < deadline, (tmp_path / "errors").read_text()
                time.sleep(0.02)
            seen = len(acknowledged.read_text().splitlines())
            place = draw.randrange(WRITERS)
            assert writers[place].poll() is None
            writers[place].kill()
            writers[place].wait()
            writers[place] = writer()
    finally:
        for one in writers:
            one.kill()
            one.wait()
        errors.close()
    assert (tmp_path / "errors").read_text() == ""
    with sqlite.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    found = read(sqlite)
    lines = acknowledged.read_text().split("\n")[:-1]
    assert set(lines) <= {study["id"] for study in found.studies}
    # Studies of those that were killed are still where they were.
    assert [said for said in violations(found) if not said.startswith("H6")] == []
