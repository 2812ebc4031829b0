"""Time of one optimizer step: ours against torch foreach, torch fused and pytorch_optimizer, in one run on one thread.

python -m benchmarks.optimizer_step [--quick] [--only lion,muon] [--rounds 300] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.step_models import MODELS, make, tiny
from benchmarks.step_references import references
from benchmarks.step_timing import Contender, race, ratio, state_bytes
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.roles import roles_of
from optim_core.transforms.torch_adapter import build_optimizer

OURS = "ours"
GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]
# Steps between two hard ones; a sample covers a whole cycle.
PERIODS = {"soap": 10, "shampoo": 10, "lookahead": 5}
# swats ends its first phase after a hundred steps; both sides are timed while they still look for the moment.
LONGEST = {"swats": 80}
WARMUP = 12
# Where a step takes a tenth of a second, so few of them.
FEW, FEW_WARMUP = 21, 3


def measure(name: str, model: str, rounds: int, quick: bool = False) -> dict[str, Any]:
    """One optimizer on one model: median microseconds per contender, ratios ours/theirs, state bytes."""
    build_model = tiny if quick else MODELS[model]
    builders = {OURS: lambda m: build_optimizer(name, m), **references(name, model)}
    contenders = {key: Contender(build_model, build, name == "sam") for key, build in builders.items()}
    period = PERIODS.get(name, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rounds, warmup = (min(rounds, FEW), FEW_WARMUP) if model == "six_large" else (rounds, WARMUP)
        samples = race(contenders, max(3, min(rounds, LONGEST.get(name, rounds)) // period), period, warmup)
    return {
        "optimizer": name,
        "model": model,
        "samples": len(samples[OURS]),
        "microseconds": {key: statistics.median(values) * 1e6 for key, values in samples.items()},
        "fastest": {key: min(values) * 1e6 for key, values in samples.items()},
        "ratios": {key: asdict(ratio(samples[OURS], samples[key])) for key in samples if key != OURS},
        "state_bytes": state_bytes(contenders[OURS].optimizer),
        "catalogue_bytes": catalogue_bytes(name, make(build_model)),
        "finite": all(each.healthy() for each in contenders.values()),
    }


def catalogue_bytes(name: str, model: nn.Module) -> int:
    """What the catalogue says the optimizer keeps for this model: 4 bytes per number, 8 per number of a trial."""
    row, roles = OPTIMIZERS[name], roles_of(model)
    return (
        4 * sum(row.numbers_of(tuple(p.shape), roles[n]) for n, p in model.named_parameters()) + 8 * row.trial_numbers
    )


def fits(name: str, model: str) -> bool:
    """Whether it is worth timing: large matrices only where no method decomposes them, 16 bits where others have them."""
    if model == "six_large":
        return OPTIMIZERS[name].couples == "nothing"
    return model != "bfloat16" or bool(references(name, model))


COLUMNS = ("torch_foreach", "torch_fused", "pytorch_optimizer", "torch_master")


def line(row: dict[str, Any]) -> str:
    """A row of the table: our time, then per rival ours/theirs with its interval."""
    cells = []
    for key in COLUMNS:
        r = row["ratios"].get(key)
        cells.append(f"{r['median']:5.2f} [{r['low']:.2f} {r['high']:.2f}]" if r else "-")
    same = "equal" if row["state_bytes"] == row["catalogue_bytes"] else f"{row['state_bytes']}/{row['catalogue_bytes']}"
    name, model, own = row["optimizer"], row["model"], row["microseconds"][OURS]
    return f"{name:20}{model:13}{own:9.0f}  " + "".join(f"{cell:20}" for cell in cells) + same


HEAD = f"{'optimizer':20}{'model':13}{'ours us':>9}  " + "".join(f"{'/ ' + key:20}" for key in COLUMNS) + "state bytes"


def run(names: list[str], models: list[str], rounds: int, quick: bool = False) -> dict[str, Any]:
    """The whole table, printed row by row."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        where = device("pytorch_optimizer")
        print(
            f"{where['cpu']}, {where['threads']} thread, torch {where['torch']}; ratios are ours/theirs, below 1 is faster"
        )
        print(HEAD)
        rows = []
        for name in names:
            for model in filter(partial(fits, name), models):
                rows.append(measure(name, model, rounds, quick))
                print(line(rows[-1]), flush=True)
    finally:
        torch.set_num_threads(threads)
    return {"device": where, "rounds": rounds, "rows": rows}


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GRADIENT), help="optimizers, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS), help="models, separated by commas")
    parser.add_argument("--rounds", type=int, default=300, help="steps of each contender")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps: only to see that it works")
    parser.add_argument("--out", type=Path, help="write the result here; 'auto': benchmarks/results/<device>.json")
    chosen = parser.parse_args(arguments)
    names, models = chosen.only.split(","), ["tiny"] if chosen.quick else chosen.models.split(",")
    result = run(names, models, 30 if chosen.quick else chosen.rounds, chosen.quick)
    if chosen.out:
        out = (
            RESULTS / f"optimizer-step-{device_slug(result['device'])}.json"
            if str(chosen.out) == "auto"
            else chosen.out
        )
        out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
