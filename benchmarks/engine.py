"""Trial-steps per second of the engine against plain torch, compiled torch, two processes and torch.func, in one run.

python -m benchmarks.engine [--quick] [--device cuda] [--only mlp,gru] [--rounds 7] [--no-compile] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.engine_limits import floor_seconds, machine, needs
from benchmarks.engine_rivals import Compiled, CompiledRules, Ensemble, Ours, Plain, Processes, interleaved
from benchmarks.engine_workloads import WORKLOADS, make_problem
from optim_core.engine.forms import LARGEST_PACK, fastest_form
from optim_core.engine.memory import peak_bytes
from optim_core.spec.trial import Form
from optim_core.tasks.build import Problem

KS, GPU_KS = (1, 4, 16, 64, 256), (1, 4, 16, 64, 256, 1024)
ENSEMBLE_K = 16
# Memory is the difference between two packs, so that what a process needs anyway does not count; the larger ones drown what
# its allocator happens to do.
TENSOR_KS, PROCESS_KS = (16, 64), (64, 256)
# Weights of all trials together, up to which a pack is timed.
LARGEST, GPU_LARGEST = 2**25, 2**28


def measure(name: str, ks: tuple[int, ...], rounds: int, seconds: float, compiled: bool, on: str) -> dict[str, Any]:
    """One workload on one thread (or one GPU)."""
    problem = make_problem(name, on)
    largest = LARGEST if on == "cpu" else GPU_LARGEST
    ks = tuple(k for k in ks if k == 1 or k * problem.parameter_count <= largest)
    forms = {k: fastest_form(problem, min(k, LARGEST_PACK) if on == "cpu" else k).form for k in ks}
    rivals: dict[str, Any] = {"plain": Plain(problem), "torch.func": Ensemble(problem, min(ENSEMBLE_K, max(ks)))}
    if compiled:
        rivals |= {"compiled": Compiled(problem), **_compiled_rules(problem, min(ENSEMBLE_K, max(ks)))}
    for k in ks:
        rivals[f"K={k}"] = Ours(problem, k, forms[k], shared=True)
        rivals[f"K={k} own batches"] = Ours(problem, k, forms[k], shared=False)
    rates = interleaved(rivals, rounds, seconds)
    can, need = machine(on), needs(make_problem(name))
    floor_s, bound = floor_seconds(need, can)
    best = max((f"K={k}" for k in ks), key=lambda key: statistics.median(rates[key]))
    reached = {key: floor_s * statistics.median(values) for key, values in rates.items()}
    return {
        "workload": name,
        "parameters": problem.parameter_count,
        "rates": rates,
        "ratios": {key: _ratio(values, rates["plain"]) for key, values in rates.items()},
        "best": best,
        "forms": {k: form.model_dump() for k, form in forms.items()},
        "needs": need,
        "machine": can,
        "floor_us": floor_s * 1e6,
        "bound": bound,
        "reached": reached,
    }


def _compiled_rules(problem: Problem, k: int) -> dict[str, CompiledRules]:
    """Not every network's rules can be compiled."""
    rival = CompiledRules(problem, k)
    try:
        rival.steps(2)
    except TorchDynamoException:
        return {}
    return {"compiled rules": rival}


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def whole_machine(name: str, form: Form, k: int, rounds: int, seconds: float, cores: int) -> dict[str, Any]:
    """All cores: as many processes of the engine, as local workers are, against as many of plain torch."""
    ours, plain = Processes(name, cores, form, k), Processes(name, cores)
    pairs = [(ours.rate(seconds), plain.rate(seconds)) for _ in range(rounds)]
    ours.close()
    plain.close()
    rates = {"ours": [a for a, _ in pairs], "plain": [b for _, b in pairs]}
    return {"cores": cores, **rates, "ratio": _ratio(rates["ours"], rates["plain"])}


def memory(name: str, on: str) -> dict[str, float]:
    """Bytes per trial against what must be there: of tensors, and of what allocates them, which needs some more."""
    problem = make_problem(name, on)
    must = needs(make_problem(name))["resident"]
    tensors = _growth([peak_bytes(problem, "adamw", k) for k in TENSOR_KS], TENSOR_KS)
    peak = _peak if on == "cpu" else _peak_of_gpu
    process = _growth([peak(name, k) for k in PROCESS_KS], PROCESS_KS)
    return {
        "must": must,
        "tensors": tensors,
        "process": process,
        "ratio": tensors / must,
        "process_ratio": process / must,
    }


def _growth(peaks: list[int], ks: tuple[int, int]) -> float:
    return (peaks[1] - peaks[0]) / (ks[1] - ks[0])


def _peak(name: str, k: int) -> int:
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from benchmarks.engine_rivals import Ours; from benchmarks.engine_workloads import make_problem\n"
        "from optim_core.spec.trial import Form\n"
        "name, k = sys.argv[1], int(sys.argv[2])\n"
        "ours = Ours(make_problem(name), k, Form(engine='batched', width=k), shared=True); ours.steps(4)\n"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, name, str(k)], capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout.split()[-1])


def _peak_of_gpu(name: str, k: int) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    Ours(make_problem(name, "cuda"), k, Form(engine="batched", width=k), shared=True).steps(4)
    return torch.cuda.max_memory_allocated() - before


def show(row: dict[str, Any], ks: tuple[int, ...]) -> None:
    """One workload's lines of the table."""
    ratios, reached = row["ratios"], row["reached"]
    plain = statistics.median(row["rates"]["plain"])
    print(f"\n{row['workload']}  ({row['parameters']:,} weights; plain torch {plain:,.0f} trial-steps/s = 1.00)")
    others = [f"{key} {ratios[key]:.2f}" for key in ("compiled", "torch.func", "compiled rules") if key in ratios]
    print("  " + ", ".join(others))
    for k in (k for k in ks if k in row["forms"]):
        form = row["forms"][k]
        how = "one by one" if form["engine"] == "sequential" else f"width {form['width']}"
        how += ", vectorised" if form["vectorise"] else ""
        how += ", recorded" if form["recorded"] else ""
        key = f"K={k}"
        print(f"  K {k:<4} {ratios[key]:6.2f}   own batches {ratios[key + ' own batches']:6.2f}   {how}")
    print(
        f"  floor {row['floor_us']:.1f} us ({row['bound']}); reached {reached[row['best']]:.0%}, plain {reached['plain']:.0%}"
    )
    if "whole" in row:
        print(f"  {row['whole']['cores']} cores against as many processes: {row['whole']['ratio']:.2f}")
    if "memory" in row:
        m = row["memory"]
        print(
            f"  memory per trial {m['tensors'] / 1e3:,.0f} kB of tensors, {m['ratio']:.2f} of weights, gradient, state, "
            f"activations; the process {m['process_ratio']:.2f}"
        )
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginnings of workloads, separated by commas")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one contender in one round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument(
        "--quick", action="store_true", help="one small workload, few rounds: only to see that it works"
    )
    parser.add_argument(
        "--out", type=Path, help="write the result here; 'auto': benchmarks/results/engine-<device>.json"
    )
    chosen = parser.parse_args(arguments)
    names = [n for n in WORKLOADS if n.startswith(tuple(chosen.only.split(",")))]
    ks, rounds, seconds = KS if chosen.device == "cpu" else GPU_KS, chosen.rounds, chosen.seconds
    if chosen.quick:
        names, ks, rounds, seconds = names[1:2], (1, 4), 2, 0.02
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    cpu = chosen.device == "cpu"
    where = device()
    if not cpu:
        where["gpu"] = torch.cuda.get_device_name(chosen.device)
    print(
        f"{where.get('gpu', where['cpu'])}, torch {where['torch']}; ratios of trial-steps per second, above 1 is faster"
    )
    rows = []
    for name in names:
        row = measure(name, ks, rounds, seconds, not (chosen.no_compile or chosen.quick), chosen.device)
        if not chosen.quick:
            row["memory"] = memory(name, chosen.device)
        if cpu and not chosen.quick:
            k = max(k for k in row["forms"] if k <= LARGEST_PACK)
            form = Form.model_validate(row["forms"][k])
            row["whole"] = whole_machine(name, form, k, rounds, seconds, os.cpu_count() or 1)
        rows.append(row)
        show(row, ks)
    if chosen.out:
        slug = device_slug({**where, "cpu": where.get("gpu", where["cpu"])})
        out = RESULTS / f"engine-{slug}.json" if str(chosen.out) == "auto" else chosen.out
        out.write_text(json.dumps({"device": where, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
