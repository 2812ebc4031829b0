"""A whole study, end to end, with the engine's form and with trials one after the other: the same plan, seconds apart.

python -m benchmarks.study [--quick] [--out FILE]

Planner and engine run in this process, without database, on one thread. ``sequential`` is the reference engine: plain autograd
on one module, one trial after the other.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.engine_rivals import Plain, rate
from benchmarks.engine_workloads import make_problem
from optim_core.engine import probe, run_pack
from optim_core.engine.forms import ALONE, trial_seconds
from optim_core.search import Plan, plan
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.states import UnitState
from optim_core.spec.trial import Form, ProbeReport, StudyView, UnitResult, UnitSpec, UnitView
from optim_core.tasks import Problem, ProblemSource

STUDIES: dict[str, dict[str, Any]] = {
    "digits MLP": {"name": "mlp", "hidden": [128]},
    "digits CNN": {"name": "cnn"},
}
TRIALS = 64
# Folders of the code → what their time is spent on.
ROOMS = {
    "optim_core/stacked": "forward and backward",
    # Kernels that the rules call by name.
    "torch/_ops.py": "forward and backward",
    "optim_core/transforms": "updates",
    "optim_core/search": "planning",
    "optim_core/recommend": "planning",
    "optuna": "planning",
    "optim_core/engine": "engine",
    "optim_core/tasks": "models and metrics",
    "optim_core/nn": "models and metrics",
    "optim_core/schedules": "engine",
}
# What goes forward and back, updates, and evaluates, in files of the engine.
WORK = {("batched.py", "_gradients"), ("batched.py", "outputs"), ("updater.py", "update")}


def spec_of(model: dict[str, Any], trials: int) -> StudySpec:
    """Digits, ``trials`` trials over rungs, confirmation on three seeds."""
    return StudySpec.model_validate(
        {
            "model": {"kind": "catalogue", **model},
            "dataset": {"kind": "builtin", "name": "digits"},
            "training": {"batch_size": 64, "steps": 200},
            "budget": {"trials": trials, "seeds": 3},
        }
    )


def run(folds: list[Problem], report: ProbeReport, seconds_of_probe: float) -> dict[str, Any]:
    """The study from its probe to the end: seconds, trial-steps, units. ``folds``: its problem on each fold of the rows."""
    spec, units, started = folds[0].spec, [], time.perf_counter()
    measured = UnitResult(
        trials=[], seconds=seconds_of_probe, train_steps=0, device=report.device, engine=report.engine, probe=report
    )
    first = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])
    units.append(UnitView(spec=first, state=UnitState.DONE, result=measured))
    in_units = 0.0
    while True:
        # No time limit, so that both runs make the same plan.
        view = StudyView(study_id="benchmark", spec=spec, units=units, elapsed_s=1.0, device_s=1.0)
        step = plan(view)
        if not isinstance(step, Plan):
            break
        for unit in step.units:
            begun = time.perf_counter()
            result = run_pack(folds[unit.fold or 0], unit)
            in_units += time.perf_counter() - begun
            units.append(UnitView(spec=unit, state=UnitState.DONE, result=result))
    done = [unit.result for unit in units if unit.result is not None]
    return {
        "seconds": time.perf_counter() - started,
        "in_units": in_units,
        "train_steps": sum(result.train_steps for result in done),
        "trials": sum(len(result.trials) for result in done),
        "units": len(units),
    }


def compare(name: str, trials: int) -> dict[str, Any]:
    """One study both ways, and where the time of the faster one goes."""
    source = ProblemSource(spec_of(STUDIES[name], trials))
    folds = [source.problem(fold) for fold in range(FOLDS)]
    begun = time.perf_counter()
    report = probe(folds[0]).probe
    assert report is not None
    seconds = time.perf_counter() - begun
    ways: dict[str, Form | None] = {"engine": report.form, "sequential": ALONE}
    rows = {way: run(folds, report.model_copy(update={"form": form}), seconds) for way, form in ways.items()}
    profile = cProfile.Profile()
    profile.enable()
    run(folds, report, seconds)
    profile.disable()
    assert report.form is not None
    return {
        "study": name,
        "form": report.form.model_dump(),
        "probe_s": seconds,
        **rows,
        "ratio": rows["sequential"]["seconds"] / rows["engine"]["seconds"],
        "profile": shares(profile),
        "overhead": overhead(profile),
    }


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Where the time goes, by the code that spends it or calls torch for it, from the largest share."""
    spent: dict[str, float] = {}
    stats: Any = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, _), (_, _, own, _, callers) in stats.items():
        if file != "~":
            room = _room(file)
            spent[room] = spent.get(room, 0.0) + own
        else:
            # A function of torch or Python itself: the time belongs to whoever called it.
            for (caller, _, _), (_, _, part, _) in callers.items():
                room = _room(caller)
                spent[room] = spent.get(room, 0.0) + part
    total = sum(spent.values())
    return {room: share / total for room, share in sorted(spent.items(), key=lambda item: -item[1])}


def overhead(profile: cProfile.Profile) -> float:
    """The share of units' time outside forward passes, backward passes and updates; the profiler makes it look larger."""
    whole = inside = 0.0
    stats: Any = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, _, cumulative, _) in stats.items():
        if "optim_core/engine" in file and (Path(file).name, name) in WORK:
            inside += cumulative
        if "optim_core/engine" in file and name == "run_pack":
            whole += cumulative
    return 1 - inside / whole


def _room(file: str) -> str:
    return next((room for part, room in ROOMS.items() if part in file), "else")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="few trials of the smaller study: only to see that it works"
    )
    parser.add_argument(
        "--out", type=Path, help="write the result here; 'auto': benchmarks/results/study-<device>.json"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where, rows = device(), []
    print(f"{where['cpu']}, 1 thread, torch {where['torch']}")
    for name in list(STUDIES)[: 1 if chosen.quick else None]:
        row = compare(name, 12 if chosen.quick else TRIALS)
        ours, alone = row["engine"], row["sequential"]
        print(
            f"{name}: {ours['trials']} runs, {ours['train_steps']:,} trial-steps: {ours['seconds']:.1f} s"
            f" against {alone['seconds']:.1f} s one after the other, {row['ratio']:.1f} times; probe {row['probe_s']:.1f} s"
        )
        print(
            "  "
            + ", ".join(f"{room} {share:.0%}" for room, share in row["profile"].items() if share >= 0.01)
            + f"; outside forward, backward and updates {row['overhead']:.0%}",
            flush=True,
        )
        rows.append(row)
    problem = make_problem("mlp 64-128-10, batch 32")
    reference = 1 / trial_seconds(problem, ALONE) / rate(Plain(problem), 0.5)
    print(f"The reference engine takes steps at {reference:.2f} times the rate of plain torch with fused AdamW (MLP).")
    if chosen.out:
        out = RESULTS / f"study-{device_slug(where)}.json" if str(chosen.out) == "auto" else chosen.out
        out.write_text(json.dumps({"device": where, "reference_to_plain": reference, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
