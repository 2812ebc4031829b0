"""Three minutes of strikes at a whole cluster: ``make chaos``, for the suite that is not in a hurry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_struck_cluster_loses_nothing_and_answers_as_an_undisturbed_one(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.reliability.chaos", "--minutes", "3", "--out", str(out)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=2900, check=False
    )
    assert out.exists(), done.stderr
    report = json.loads(out.read_text())
    assert report["violations"] == []
    assert report["strikes"] > 0
    assert report["studies"] == {"completed": report["studies"]["completed"]}
