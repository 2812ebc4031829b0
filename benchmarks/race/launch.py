"""Processes of the race: a tool on its cores within its time, and the judge."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.race import journal
from benchmarks.race.contest import Contest
from benchmarks.race.space import DEFAULT
from benchmarks.race.tools.whichopt import ask

_running: set[subprocess.Popen[str]] = set()
_stopped = threading.Event()
ROOT = Path(__file__).parents[2]
# A tool that is late by more than this share of its time is killed; what it has offered by then counts.
GRACE = 0.1
# The tool's process ends itself this long before the time is over.
CLOSING_S = 0.2
# The study that shows what Whichopt spends outside its budget.
_SMALL = {
    "model": {"kind": "catalogue", "name": "mlp", "hidden": [16]},
    "dataset": {"kind": "builtin", "name": "digits"},
    "training": {"batch_size": 64, "steps": 50},
    "budget": {"seconds": 3.0},
}


class Stopped(Exception):
    """The race was interrupted while a process ran; what it gave does not count."""


def stop() -> None:
    """End every process of the race; those who wait for one get Stopped, now and later."""
    _stopped.set()
    for process in list(_running):
        _kill(process)


def whichopt(
    command: Path, code: Path, cores: list[int], overhead: float | None, spec: dict[str, Any]
) -> dict[str, Any]:
    """How to run Whichopt (see ``Contest.whichopt``); when the overhead is None, it is the median of three small studies'.

    ``code``: the folder to import it from; ``spec``: fields merged into every spec.
    """
    how = {"command": str(command), "code": str(code), "overhead": overhead, "spec": spec}
    if overhead is None:
        how["overhead"] = median(_outside_budget(how, cores) for _ in range(3))
    return how


def _outside_budget(how: dict[str, Any], cores: list[int]) -> float:
    """Seconds that a small study takes besides those of its units."""
    with _only(cores), tempfile.TemporaryDirectory() as home:
        started = time.monotonic()
        answer = ask({**_SMALL, **how["spec"]}, how, Path(home))
        return time.monotonic() - started - answer["cost"]["seconds"]


def warm() -> None:
    """Read what rivals import once, so that the first of them does not wait for the disk."""
    subprocess.run([sys.executable, "-c", "import benchmarks.race.train, optuna"], check=True)


def tool(entry: journal.Entry, folder: Path, cores: list[int], how: dict[str, Any]) -> dict[str, Any]:
    """Run one tool to its answer. ``wall_s`` is from the start of its process to its end, or to its kill; ``cpu_s`` are the
    processor seconds that it got in that time, None after a kill: less than its cores had means a disturbed run.

    A tool without an answer counts as default AdamW, what one has without a tool; ``answered`` says so.
    """
    with tempfile.TemporaryDirectory(prefix="race-") as place:
        started, clock = time.time(), time.monotonic()
        contest = Contest(
            folder=str(folder), out=str(Path(place) / "answer.json"), until=started + entry.seconds - CLOSING_S,
            seconds=entry.seconds, cores=entry.cores, seed=entry.repeat, whichopt=how,
        )  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.race.tool", entry.tool, contest.text]
        # Tools leave files where they are started.
        process = _start(command, cores, Path(place), TMPDIR=place)
        late = entry.seconds * (1 + GRACE)
        try:
            _, errors = process.communicate(timeout=late)
        except subprocess.TimeoutExpired:
            errors = f"killed after {late:g} s"
        wall = time.monotonic() - clock
        _end(process)
        path = Path(contest.out)
        held = json.loads(path.read_text()) if path.exists() else {"source": None, "offers": 0}
        cpu = float(Path(contest.cpu).read_text()) if Path(contest.cpu).exists() else None
    answered = held["source"] is not None
    return {
        **held,
        "source": held["source"] or DEFAULT,
        "answered": answered,
        "wall_s": wall,
        "cpu_s": cpu,
        "error": "" if answered else errors.strip()[-2000:],
    }


def judge(source: str, folder: Path, cores: list[int], seeds: int) -> list[float]:
    """Scores of one answer on fresh seeds. Raises RuntimeError when the answer does not run."""
    process = _start([sys.executable, "-m", "benchmarks.race.judge", str(folder), str(seeds)], cores, ROOT, stdin=True)
    out, errors = process.communicate(json.dumps([source]))
    _end(process)
    if process.returncode:
        raise RuntimeError(f"the judge failed on\n{source}\n{errors[-3000:]}")
    return json.loads(out)[0]


def _start(
    command: list[str], cores: list[int], cwd: Path, stdin: bool = False, **environment: str
) -> subprocess.Popen[str]:
    with _only(cores):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(len(cores)), "PYTHONPATH": str(ROOT), **environment}, cwd=cwd,
        )  # fmt: skip
    _running.add(process)
    return process


@contextlib.contextmanager
def _only(cores: list[int]):
    """Processes that this thread starts may run on ``cores`` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _end(process: subprocess.Popen[str]) -> None:
    """Nothing that the tool started outlives it. Raises Stopped when the race was interrupted."""
    _kill(process)
    process.communicate()
    _running.discard(process)
    if _stopped.is_set():
        raise Stopped


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
