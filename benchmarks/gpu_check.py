"""Everything that only a GPU can show, in one go of a few minutes: for whoever has one.

python -m benchmarks.gpu_check [--device cuda] [--out FILE]

The tests marked ``gpu``; people's modules (``own_modules``) and the catalogue's networks (``engine``) over the number of
trials, with peak memory; one study from end to end. One JSON document, named after the device. Without CUDA it says so and
ends with 0; ``--device cpu`` runs the same on a processor, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import engine, own_modules
from benchmarks.device import RESULTS, device, device_slug

ROOT = Path(__file__).parents[1]
# Workloads whose steps are mostly waiting for calls: where many trials at once gain most.
ENGINE, OWN = ("mlp", "cnn"), ("skip_mlp", "gpt", "two_inputs", "vae", "resnet")
GPU_KS, CPU_KS = (1, 16, 64, 256), (1, 4)
TESTS_S, BUDGET_S = 240, 45.0


def tests() -> dict[str, Any]:
    """The tests marked ``gpu``, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/unit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_S, check=False)
    return {"exit": done.returncode, "tail": done.stdout.splitlines()[-15:]}


def networks(on: str, ks: tuple[int, ...], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The catalogue's networks against plain torch with fused AdamW."""
    rows = []
    for name in (n for n in engine.WORKLOADS if n.startswith(ENGINE)):
        rows.append(engine.measure(name, ks, rounds, seconds, compiled=False, on=on))
        engine.show(rows[-1], ks)
    return rows


def study(on: str) -> dict[str, Any]:
    """A study of a person's module, in this process: what it answers, and what it took."""
    import whichopt
    from workers import training

    training.default_device = lambda: on
    x = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    y = (x[:, :5] + x[:, 5:10] * x[:, 10:15]).argmax(1)

    def make() -> torch.nn.Module:
        widths = [torch.nn.Linear(32, 128), torch.nn.ReLU(), torch.nn.Linear(128, 128), torch.nn.ReLU()]
        return torch.nn.Sequential(*widths, torch.nn.Linear(128, 5))

    started = time.perf_counter()
    answer = whichopt.recommend(make, (x, y), budget=f"{BUDGET_S:g}s", progress=False)
    return {"seconds": time.perf_counter() - started, "headline": answer.headline, "cost": answer.document["cost"]}


def attempt(name: str, part: Callable[[], Any], found: dict[str, Any]) -> None:
    """One part's result, or what it raised: the others are worth having all the same."""
    print(f"\n{name}", flush=True)
    started = time.perf_counter()
    try:
        found[name] = part()
    except Exception as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
    print(f"({time.perf_counter() - started:.0f} s) {found[name] if isinstance(found[name], dict) else ''}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command. 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="a file, or a folder; left out: benchmarks/results")
    chosen = parser.parse_args(arguments)
    on = chosen.device
    if on != "cpu" and not torch.cuda.is_available():
        print("no CUDA here: nothing to check")
        return 0
    where = {**device(), "gpu": None if on == "cpu" else torch.cuda.get_device_name(on)}
    ks, rounds, seconds = (CPU_KS, 1, 0.02) if on == "cpu" else (GPU_KS, 3, 0.2)
    own = [name for name in own_modules.OWN if name in OWN]
    found: dict[str, Any] = {"device": where}
    if on != "cpu":
        attempt("tests", tests, found)
    attempt(
        "own modules",
        lambda: own_modules.run(own, ks, rounds, seconds, on, lambda line: print(line, flush=True)),
        found,
    )
    attempt("networks", lambda: networks(on, ks, rounds, seconds), found)
    attempt("study", lambda: study(on), found)
    slug = device_slug({**where, "cpu": where["gpu"] or where["cpu"]})
    out = chosen.out or RESULTS
    out = out / f"gpu-check-{slug}.json" if out.is_dir() else out
    out.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(f"\nwritten to {out}")
    parts = [part for part in found.values() if isinstance(part, dict)]
    return int(any("error" in part or part.get("exit") for part in parts))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    raise SystemExit(main())
