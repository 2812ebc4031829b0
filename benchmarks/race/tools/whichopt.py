"""Whichopt as a stranger runs it: ``whichopt recommend spec.json --json`` with a budget, an empty data folder, the snippet."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.race.contest import Contest


def run(contest: Contest) -> None:
    """The budget is what the clock leaves after starting and stopping, which was measured once for all workloads."""
    spec = json.loads((Path(contest.folder) / "spec.json").read_text())
    budget = max(contest.left - contest.whichopt["overhead"], 1.0)
    with tempfile.TemporaryDirectory(prefix="whichopt-") as home:
        answer = ask({**spec, "budget": {"seconds": budget}, **contest.whichopt["spec"]}, contest.whichopt, Path(home))
    told = {key: answer.get(key) for key in ("verdict", "reason", "recommended", "cost", "engine")}
    contest.offer(answer["snippet"], answer["score"]["mean"], told=told)


def ask(spec: dict, how: dict, home: Path) -> dict:
    """The answer's JSON. Raises RuntimeError with what the command wrote to standard error."""
    path = home / "spec.json"
    path.write_text(json.dumps(spec))
    done = subprocess.run(
        [how["command"], "recommend", str(path), "--json"],
        env={**os.environ, "PYTHONPATH": how["code"], "WHICHOPT_DATA_DIR": str(home / "data")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)
