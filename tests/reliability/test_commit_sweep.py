"""A process may end before or after any of its commits, or be told to: the next one ends the study with the same answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.commit_points import Point
from tests.reliability.sweep import MODES, everything, spread

ROOT = Path(__file__).parents[2]
# What writes in the life of a study; a point that the sweep no longer meets is not proved any more.
OPERATIONS = {
    "rename artifact_folder.keep", "artifacts.store", "artifacts.collect", "webhooks.create", "delivering.deliver_due",
    "delivering.forget_old", "studies.create_study", "studies.pause_study", "studies.resume_study", "checking._claim",
    "checking._end", "planning._turn", "queue._claim_in", "queue.report_progress", "queue.save_checkpoint",
    "queue.keep_turn", "queue.complete_unit", "queue.worker_seen", "queue.forget_old_use",
}  # fmt: skip


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that has opened nothing before it forks."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=3500, check=False
    )


def sweep(tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "sweep.json"
    done = python("-m", "tests.reliability.sweep", "--out", str(out), *options)
    assert out.exists(), done.stderr
    found = json.loads(out.read_text())
    assert found["violations"] == []
    assert all(run["reached"] for run in found["runs"]), [run for run in found["runs"] if not run["reached"]]
    assert {Point(*point).operation for point in found["points"]} == OPERATIONS
    return found


# All points in all modes: ``make sweep``.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", ["0/2", "1/2"])
def test_a_process_that_ends_at_a_commit_of_any_operation_loses_nothing(tmp_path: Path, part: str) -> None:
    found = sweep(tmp_path, "--choose", "spread", "--part", part)
    assert {run["mode"] for run in found["runs"]} == set(MODES)


def test_each_operation_is_met_and_each_mode() -> None:
    points = [Point(1, "a"), Point(2, "b"), Point(3, "a"), Point(4, "a")]
    assert spread(points) == [("before", points[0]), ("after", points[1]), ("term", points[3])]
    assert len(everything(points)) == 12


TORN = """
from service.operations import queue, results
from service.db.repositories import StudyRepository, UnitRepository
from tests.reliability import sweep

def torn(db, unit_id, token, result):
    with db.write() as session:
        unit = UnitRepository(session).get(unit_id)
        study, now = StudyRepository(session).lock(unit.study_id), StudyRepository(session).now()
        given = {"result": results.document_of(result, unit.kind), "finished_at": now}
        if not UnitRepository(session).end_lease(unit_id, token, queue.UnitState.DONE, **given):
            return False
    with db.write() as session:
        study, unit = StudyRepository(session).lock(study.id), UnitRepository(session).get(unit_id)
        results.record(session, study, unit, result, now)
        return True

queue.complete_unit = torn
first = lambda points: [("after", next(point for point in points if point.operation == "elsewhere"))]
for said in sweep.run("sqlite", first).violations:
    print(said)
"""


def test_a_result_that_is_written_in_two_transactions_is_found() -> None:
    done = python("-c", TORN)
    assert done.returncode == 0, done.stderr
    rules = {line.split(": ", 2)[1] for line in done.stdout.splitlines()}
    assert "H3" in rules or "H9" in rules, done.stdout
