"""From the command to its prompt: when each stage of a small study begins, seen from outside.

python -m benchmarks.start [--runs 5] [--model mlp] [--data digits] [--budget '20 trials'] [--out FILE]

Each run is the console script in a process of its own, with a data folder of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# The console script, and when it first asks its API for something: then the API is up.
CHILD = """
import os, sys, time
def note(event, arguments):
    if event == "socket.connect" and not marked:
        marked.append(1)
        with open(os.environ["WHICHOPT_BENCH_MARK"], "w") as file:
            file.write(str(time.time()))
marked = []
sys.addaudithook(note)
sys.argv[0] = "whichopt"
from workers.cli import main
main()
"""
# Stage → what its seconds count to.
STAGES = {
    "api": "the API answers",
    "study": "the study is stored",
    "probe": "the probe begins",
    "probed": "the probe is committed",
    "unit": "the first training unit is claimed",
    "step": "its first step",
    "commit": "the answer is committed",
    "printed": "the answer is printed",
    "prompt": "the prompt is back",
}
# What is a length of time and no moment.
SPANS = ("gap", "gap_90", "trained_s", "in_units_s")
# Stages of the whole and the gaps between them that people wait in.
WAITS = {
    "to the first training step": ("begin", "step"),
    "in the probe": ("probe", "probed"),
    "from the answer to the prompt": ("printed", "prompt"),
    "from the commit to the prompt": ("commit", "prompt"),
}


def once(arguments: list[str]) -> dict[str, float]:
    """Seconds from the command to each stage of one run, and the gap between units (median, 90 % quantile)."""
    with tempfile.TemporaryDirectory(prefix="whichopt-start-") as folder:
        mark = Path(folder) / "mark"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WHICHOPT_")}
        env = {**kept, "WHICHOPT_DATA_DIR": folder, "WHICHOPT_BENCH_MARK": str(mark)}
        begin = time.time()
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, "recommend", *arguments],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        printed = begin
        while os.read(process.stdout.fileno(), 1 << 16):
            printed = time.time()
        status = process.wait()
        prompt = time.time()
        told = process.stderr.read().decode()
        if status:
            raise RuntimeError(f"the command ended with status {status}: {told[-2000:]}")
        moments = {"api": float(mark.read_text()), **stored(Path(folder) / "whichopt.db")}
    moments |= {"printed": printed, "prompt": prompt}
    spans = {name: moments.pop(name) for name in SPANS}
    return {"begin": 0.0, **{name: at - begin for name, at in moments.items()}, **spans}


def stored(path: Path) -> dict[str, float]:
    """Moments (epoch seconds) that the study's rows tell, and how long a worker that goes on waits between two units."""
    connection = sqlite3.connect(path)
    try:
        study = connection.execute("SELECT created_at, finished_at, elapsed_s FROM study").fetchone()
        units = connection.execute(
            "SELECT kind, worker_id, claimed_at, finished_at, json_extract(result, '$.seconds') FROM unit ORDER BY id"
        ).fetchall()
    finally:
        connection.close()
    probe = next(unit for unit in units if unit[0] == "probe")
    first = min((unit for unit in units if unit[0] != "probe"), key=lambda unit: unit[2])
    runs: dict[str, list[tuple[float, float]]] = {}
    for _, worker, claimed, finished, _ in units:
        runs.setdefault(worker, []).append((claimed, finished))
    gaps = [later[0] - earlier[1] for own in map(sorted, runs.values()) for earlier, later in itertools.pairwise(own)]
    return {
        "study": study[0],
        "probe": probe[2],
        "probed": probe[3],
        "unit": first[2],
        "step": first[3] - first[4],
        "commit": study[1],
        "trained_s": study[2],
        "in_units_s": sum(seconds for *_, seconds in units),
        "gap": statistics.median(gaps) if gaps else 0.0,
        "gap_90": sorted(gaps)[int(0.9 * len(gaps))] if gaps else 0.0,
    }


def timeline(runs: list[dict[str, float]]) -> list[str]:
    """A line a stage: seconds since the command, medians over ``runs``, and what was added since the stage before."""
    lines, before = [], 0.0
    for name, said in STAGES.items():
        at = statistics.median(run[name] for run in runs)
        lines.append(f"{at:7.2f} s  +{at - before:5.2f}  {said}")
        before = at
    for said, (first, last) in WAITS.items():
        values = sorted(run[last] - run[first] for run in runs)
        lines.append(f"{said}: {statistics.median(values):.2f} s ({values[0]:.2f} to {values[-1]:.2f})")
    gap, slow = (statistics.median(run[name] for run in runs) for name in ("gap", "gap_90"))
    lines.append(
        f"between two units of one worker: {1000 * gap:.0f} ms, in nine of ten cases under {1000 * slow:.0f} ms"
    )
    trained, share = (
        statistics.median(run["trained_s"] / part for run, part in pairs)
        for pairs in ([(run, run["prompt"]) for run in runs], [(run, run["commit"] - run["probe"]) for run in runs])
    )
    lines.append(f"training: {trained:.0%} of the whole, {share:.0%} from the probe to the answer")
    busy = statistics.median(run["in_units_s"] / (run["commit"] - run["probe"]) for run in runs)
    lines.append(f"packs that trained at once in that time, on average: {busy:.2f}")
    return lines


def load() -> float | None:
    """How many processes wanted a core in the last minute; None where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="how often")
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--budget", default="20 trials")
    parser.add_argument("--spec", type=Path, help="a spec file instead")
    parser.add_argument(
        "--out", type=Path, help="write the result here; 'auto': benchmarks/results/start-<device>.json"
    )
    chosen = parser.parse_args(arguments)
    asked = [str(chosen.spec)] if chosen.spec else ["--model", chosen.model, "--data", chosen.data]
    asked += [] if chosen.spec else ["--budget", chosen.budget]
    runs: list[dict[str, float]] = []
    loads: list[float | None] = []
    for _ in range(chosen.runs):
        loads.append(load())
        runs.append(once(asked))
    print(f"whichopt recommend {' '.join(asked)}: medians of {len(runs)} runs, load {loads[0]} before, {load()} after")
    print("\n".join(timeline(runs)))
    if chosen.out:
        # Not before: torch would be imported while the command is timed.
        from benchmarks.optimizer_step import device, device_slug

        where: dict[str, Any] = device()
        out = RESULTS / f"start-{device_slug(where)}.json" if str(chosen.out) == "auto" else chosen.out
        document = {"device": where, "asked": asked, "load": loads, "runs": runs}
        out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
