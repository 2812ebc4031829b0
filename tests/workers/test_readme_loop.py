"""The README's own loop works as it is pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.db import Database
from tests.workers.loop_server import loop_server

ROOT = Path(__file__).resolve().parents[2]


def test_the_section_on_ones_own_loop_runs_as_pasted(
    tmp_path: Path, sqlite: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "README.md").read_text().split("## Your own loop")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    with loop_server(sqlite, tmp_path) as client:
        assert code.count("http://127.0.0.1:8000") == 1
        exec(compile(code.replace("http://127.0.0.1:8000", client.base_url), "README", "exec"), {})
        [study] = client.list_studies()["items"]
        assert study["status"] == "completed"
        assert study["verdict"] in ("better", "no_difference", "inconclusive")
        assert study["progress"]["trials_done"] >= 30
        # It says that its trials are about enough: AdamW's best rate lies inside what was tried.
        [baseline] = [row for row in client.recommendation(study["id"])["league"] if row["optimizer"] == "adamw"]
        assert baseline["lacks"] is None
    assert capsys.readouterr().out.strip()


@pytest.mark.slow  # compiles for longer than it trains
def test_the_example_in_jax_ends_in_a_verdict(tmp_path: Path, sqlite: Database) -> None:
    with loop_server(sqlite, tmp_path) as client:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "optax_loop.py")], capture_output=True, text=True, timeout=280,
            env={**os.environ, "WHICHOPT_SERVER": client.base_url, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        [study] = client.list_studies()["items"]
        assert study["status"] == "completed"
        assert done.stdout.strip() == client.recommendation(study["id"])["summary"]
