"""The race: every tool on every workload at every wall-clock, then the judge, then the report. Interrupted, it goes on.

python -m benchmarks.race.run [--quick | --long] [--only W,W] [--tools T,T] [--seconds 10,40] [--out FILE]

Files of a race lie in ``--work``: ``answers.jsonl`` has a line a run of a tool, ``scores.jsonl`` a line a judged answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.race import arrays, journal, launch, report
from benchmarks.race.tools import OURS, TOOLS
from benchmarks.race.workloads import WORKLOADS

QUICK_WORKLOADS = ("noisy-labels-mlp", "wave-mlp", "digits-cnn", "affairs-tabular")
QUICK_TOOLS = ("adamw", "sweep", "random", "optuna", "whichopt")


@dataclass(frozen=True)
class Plan:
    """What to race. ``jobs`` tools run side by side, each on ``cores`` of its own; ``fifth``: Whichopt also in a fifth of the
    longest time.
    """

    workloads: Sequence[str]
    tools: Sequence[str]
    seconds: Sequence[float]
    seeds: int
    cores: int
    jobs: int
    repeats: int
    fifth: bool


def plan_of(options: argparse.Namespace) -> Plan:
    """The preset, changed by what was asked for. Raises SystemExit for a name that does not exist."""
    quick = options.quick
    seconds = (10.0, 40.0, 160.0) if options.long else (10.0, 40.0)
    chosen = Plan(
        workloads=_named(options.only, WORKLOADS, QUICK_WORKLOADS if quick else tuple(WORKLOADS)),
        tools=_named(options.tools, TOOLS, QUICK_TOOLS if quick else tuple(TOOLS)),
        seconds=[float(s) for s in options.seconds.split(",")] if options.seconds else seconds,
        seeds=options.judge_seeds or (5 if quick else 10),
        cores=options.cores or (1 if quick else min(2, len(os.sched_getaffinity(0)))),
        jobs=options.jobs or (min(2, len(os.sched_getaffinity(0))) if quick else 1),
        repeats=options.repeats,
        fifth=not quick,
    )
    if chosen.cores * chosen.jobs > len(os.sched_getaffinity(0)):
        raise SystemExit(f"{chosen.jobs} jobs of {chosen.cores} cores are more than this machine has")
    return chosen


def _named(asked: str | None, known: Mapping[str, Any], usual: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(asked.split(",")) if asked else usual
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"there is no {unknown[0]!r}; known: {', '.join(known)}")
    return names


def entries(plan: Plan, workload: str, repeat: int, turn: int) -> list[journal.Entry]:
    """All runs on one workload. Tools take turns at going first, so that none always has the quiet moment."""
    tools = [*plan.tools[turn % len(plan.tools) :], *plan.tools[: turn % len(plan.tools)]]
    found = [journal.Entry(workload, tool, s, plan.cores, repeat) for s in plan.seconds for tool in tools]
    if plan.fifth and OURS in plan.tools:
        found.append(journal.Entry(workload, OURS, max(plan.seconds) / 5, plan.cores, repeat))
    return list(dict.fromkeys(found))


def race(plan: Plan, work: Path, how: dict[str, Any]) -> None:
    """Run what is missing, workload by workload, and judge it."""
    work.mkdir(parents=True, exist_ok=True)
    turn = 0
    for repeat in range(plan.repeats):
        for workload in plan.workloads:
            turn += 1
            if not WORKLOADS[workload].available:
                print(f"{workload}: left out, {WORKLOADS[workload].package} is not installed", file=sys.stderr)
                continue
            folder = work / "data" / journal.folder_name(workload, repeat)
            arrays.write(WORKLOADS[workload], folder, repeat)
            done = journal.entries(work)
            todo = [entry for entry in entries(plan, workload, repeat, turn) if entry not in done]
            _side_by_side(plan, [partial(_run, entry, folder, work, how) for entry in todo])
            waiting = journal.unjudged(work, workload, repeat, plan.seeds)
            _side_by_side(plan, [partial(_judge, source, folder, work, plan.seeds) for source in waiting])


def _run(entry: journal.Entry, folder: Path, work: Path, how: dict[str, Any], cores: list[int]) -> None:
    found = launch.tool(entry, folder, cores, how)
    journal.add(work / journal.ANSWERS, {**entry.fields, **found})
    said = f"{found['offers']} offers" if found["answered"] else f"NO ANSWER {found['error'][-300:]}"
    print(
        f"{entry.workload:20} {entry.tool:20} {entry.seconds:5g} s: {found['wall_s']:6.1f} s, {said}", file=sys.stderr
    )


def _judge(source: str, folder: Path, work: Path, seeds: int, cores: list[int]) -> None:
    scores = launch.judge(source, folder, cores, seeds)
    journal.add(work / journal.SCORES, {"folder": folder.name, "source": source, "scores": scores})


def _side_by_side(plan: Plan, tasks: list[Callable[[list[int]], None]]) -> None:
    """Run ``tasks`` in order, ``jobs`` at a time, each with its own cores. Raises what the first failing one raises."""
    free: Queue[list[int]] = Queue()
    cores = sorted(os.sched_getaffinity(0))
    for i in range(plan.jobs):
        free.put(cores[i * plan.cores : (i + 1) * plan.cores])

    def work(task: Callable[[list[int]], None]) -> None:
        slot = free.get()
        try:
            task(slot)
        finally:
            free.put(slot)

    with ThreadPoolExecutor(plan.jobs) as pool:
        running = [pool.submit(work, task) for task in tasks]
        try:
            for each in running:
                each.result()
        except BaseException:
            launch.stop()
            pool.shutdown(cancel_futures=True)
            raise


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--quick", action="store_true", help="four workloads, five tools, one core each: about 10 minutes"
    )
    made.add_argument("--long", action="store_true", help="also 160 s")
    made.add_argument("--only", help="these workloads")
    made.add_argument("--tools", help="these tools")
    made.add_argument("--seconds", help="these wall-clocks")
    made.add_argument("--cores", type=int, help="cores a tool has")
    made.add_argument("--jobs", type=int, help="tools side by side")
    made.add_argument("--judge-seeds", type=int, help="fresh seeds an answer")
    made.add_argument("--repeats", type=int, default=1, help="the whole race on so many splits and search seeds")
    made.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "whichopt-race", help="folder of the race"
    )
    made.add_argument("--code", type=Path, default=launch.ROOT, help="the code of Whichopt to race")
    made.add_argument(
        "--command", type=Path, default=launch.ROOT / ".venv/bin/whichopt", help="the console script of Whichopt"
    )
    made.add_argument("--overhead", type=float, help="seconds of Whichopt outside its budget; measured when left out")
    made.add_argument("--spec", default="{}", help="JSON merged into every spec, for ablations")
    made.add_argument("--out", help="write the report as JSON: a file, or auto for results/")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, race, report."""
    options = parser().parse_args(arguments)
    plan = plan_of(options)
    cores = sorted(os.sched_getaffinity(0))[: plan.cores]
    overhead = options.overhead if OURS in plan.tools else 0.0
    how = launch.whichopt(
        options.command.absolute(), options.code.absolute(), cores, overhead, json.loads(options.spec)
    )
    print(f"Whichopt spends {how['overhead']:.1f} s outside its budget", file=sys.stderr)
    # A kill is an interruption too: tools run in sessions of their own and would outlive the race.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    launch.warm()
    work = options.work.resolve()
    race(plan, work, how)
    found = report.build(work, device("optuna", "ray", "syne-tune"))
    print(report.markdown(found))
    if options.out:
        path = RESULTS / f"race-{device_slug(found['device'])}.json" if options.out == "auto" else Path(options.out)
        path.write_text(report.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, launch.Stopped):
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
