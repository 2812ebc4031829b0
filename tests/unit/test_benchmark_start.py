"""The timeline of a start, from rows as a study leaves them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from benchmarks.start import STAGES, stored, timeline


def test_moments_come_from_the_studys_rows(tmp_path: Path) -> None:
    path = tmp_path / "whichopt.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE study (created_at, finished_at, elapsed_s)")
    connection.execute("CREATE TABLE unit (id INTEGER PRIMARY KEY, kind, worker_id, claimed_at, finished_at, result)")
    connection.execute("INSERT INTO study VALUES (101.0, 120.0, 16.9)")
    units = [
        ("probe", "a", 102.0, 103.0, 0.9),
        ("train", "b", 104.0, 108.0, 3.5),
        ("train", "a", 103.5, 107.5, 3.9),
        ("train", "a", 107.6, 119.0, 11.0),
    ]
    for kind, worker, claimed, finished, seconds in units:
        row = (kind, worker, claimed, finished, json.dumps({"seconds": seconds}))
        connection.execute(
            "INSERT INTO unit (kind, worker_id, claimed_at, finished_at, result) VALUES (?, ?, ?, ?, ?)", row
        )
    connection.commit()
    connection.close()
    found = stored(path)
    assert found == {
        "study": 101.0, "probe": 102.0, "probed": 103.0, "unit": 103.5, "commit": 120.0,
        "step": pytest.approx(103.6), "gap": pytest.approx(0.3), "gap_90": pytest.approx(0.5),
        "trained_s": 16.9, "in_units_s": pytest.approx(19.3),
    }  # fmt: skip


def test_a_timeline_is_the_median_of_its_runs() -> None:
    run = {name: float(i) for i, name in enumerate(["begin", *STAGES])} | {"gap": 0.05, "gap_90": 0.1}
    run |= {"trained_s": 4.5, "in_units_s": 6.0}
    slow = {name: 10 * value for name, value in run.items()}
    lines = timeline([run, slow, run])
    assert lines[0] == "   1.00 s  + 1.00  the API answers"
    assert "to the first training step: 6.00 s (6.00 to 60.00)" in lines
    assert "between two units of one worker: 50 ms, in nine of ten cases under 100 ms" in lines
    # Probe at 3, commit at 7, prompt at 9.
    assert "training: 50% of the whole, 112% from the probe to the answer" in lines
    assert "packs that trained at once in that time, on average: 1.50" in lines
