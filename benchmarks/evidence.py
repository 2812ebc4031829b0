"""Does the evidence hold what it says? Studies with known truth, judged as the verdict judges them.

python -m benchmarks.evidence [--quick] [--only null,truth,equals,planted,handicap,stability,prunes] [--seed 0] [--out FILE]

Ends with 1 when a goal is missed by more than sampling error explains.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence_handicap import handicap
from benchmarks.evidence_null import null
from benchmarks.evidence_planted import equals, planted
from benchmarks.evidence_prunes import prunes
from benchmarks.evidence_stability import stability
from benchmarks.evidence_truth import truth
from benchmarks.optimizer_step import RESULTS, device, device_slug

# A part is (quick, seed) → its results, JSON; under "missed" the goals that it misses, in sentences.
Part = Callable[[bool, int], dict[str, Any]]
PARTS: dict[str, Part] = {
    "null": null, "truth": truth, "equals": equals, "planted": planted, "handicap": handicap, "stability": stability,
    "prunes": prunes,
}  # fmt: skip


def run(parts: list[str], quick: bool, seed: int) -> dict[str, Any]:
    """The chosen parts on one thread, each with the seconds that it took."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        where = device()
        found: dict[str, Any] = {"device": where, "quick": quick, "seed": seed, "parts": {}}
        for name in parts:
            start = time.perf_counter()
            found["parts"][name] = PARTS[name](quick, seed)
            found["parts"][name]["seconds"] = round(time.perf_counter() - start, 1)
    finally:
        torch.set_num_threads(threads)
    return found


def write(result: dict[str, Any], out: Path) -> None:
    """Into a file; parts that were not run keep what the file has of the same form and seed."""
    if out.exists():
        before = json.loads(out.read_text())
        if (before["quick"], before["seed"]) == (result["quick"], result["seed"]):
            result = result | {"parts": before["parts"] | result["parts"]}
    out.write_text(json.dumps(result, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="few cells, tables and studies, under two minutes")
    parser.add_argument("--seed", type=int, default=0, help="of tables and networks")
    parser.add_argument(
        "--out", type=Path, help="write the result here; 'auto': benchmarks/results/evidence-<device>.json"
    )
    chosen = parser.parse_args(arguments)
    result = run(chosen.only.split(","), chosen.quick, chosen.seed)
    if chosen.out:
        auto = RESULTS / f"evidence-{device_slug(result['device'])}.json"
        write(result, auto if str(chosen.out) == "auto" else chosen.out)
    missed = [f"{name}: {goal}" for name, part in result["parts"].items() for goal in part["missed"]]
    for goal in missed:
        print(f"MISSED {goal}")
    print(f"{len(missed)} goals missed" if missed else "All goals reached.")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
