"""Runs the installed console script as a person does, with a data folder of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from service.client import Client

SCRIPT = Path(sys.executable).parent / "whichopt"
TIMEOUT_S = 240.0


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A clean environment: nothing of the caller's WHICHOPT_* settings, one thread, a fresh data folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WHICHOPT_")}
    return {**kept, "WHICHOPT_DATA_DIR": str(folder / "home"), "OMP_NUM_THREADS": "1", "COLUMNS": "120", **more}


def whichopt(
    folder: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in ``folder``."""
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)], cwd=folder, env={**environment(folder), **(env or {})},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def client_of(folder: Path, address: str) -> Client:
    """A client of a server that was just started with ``environment(folder)``, once that has made its key."""
    path, deadline = folder / "home" / "key", time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline, "the server made no key"
        time.sleep(0.05)
    return Client(address, path.read_text())


def tiny_spec(**changes: Any) -> dict[str, Any]:
    """A study of seconds: 8 trials of 40 steps, two optimizers, two confirmation seeds."""
    spec: dict[str, Any] = {
        "model": {"kind": "catalogue", "name": "mlp", "hidden": [16]},
        "dataset": {"kind": "builtin", "name": "digits"},
        "training": {"steps": 40},
        "search": {"optimizers": ["momentum"]},
        "budget": {"trials": 8, "seeds": 2},
    }
    return {**spec, **changes}


def write_spec(folder: Path, spec: Any, name: str = "spec.yaml") -> Path:
    path = folder / name
    path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
    return path


def write_table(path: Path, rows: int = 200) -> Path:
    """A CSV with a gap, a category, a number to predict and a class to predict."""
    draw = random.Random(0)
    lines = ["size,colour,price,kind"]
    for i in range(rows):
        size = draw.uniform(1, 9)
        colour = draw.choice(["red", "green", "blue"])
        price = 3 * size + (5 if colour == "red" else 0) + draw.gauss(0, 0.3)
        kind = "big" if size + draw.gauss(0, 0.5) > 5 else "small"
        lines.append(f"{'' if i % 17 == 0 else round(size, 3)},{colour},{price:.3f},{kind}")
    path.write_text("\n".join(lines) + "\n")
    return path


def answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on standard output of a command that must have succeeded."""
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "whichopt.recommendation/1"
    return document


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what depends on the clock, on the number of workers that were awake, or on the study's name."""
    kept = json.loads(json.dumps(answer))
    kept["study"] = kept["replay"]["command"] = kept["cost"]["seconds"] = None
    kept["cost"]["packs"] = kept["cost"]["mean_pack_size"] = None
    if kept["decide"] is not None and kept["decide"]["seconds"] is not None:
        kept["decide"]["seconds"] = kept["summary"] = None
    for row in kept["league"]:
        row["step_s"] = None
    return kept
