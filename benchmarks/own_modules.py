"""Trial-steps per second of a person's module in the form that its proof and a measurement choose, against their own loop.

python -m benchmarks.own_modules [--quick] [--device cuda] [--only gpt,vae] [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.engine_rivals import Ours, interleaved
from benchmarks.own_models import OWN, Own
from optim_core.engine.forms import LARGEST_PACK, fastest_form
from optim_core.own.source import OwnSource
from optim_core.own.task import OwnTask
from optim_core.spec.problem import Budget, PythonDataset, PythonModel, Search, StudySpec, Training
from optim_core.spec.trial import Form

BATCH, ROWS, HORIZON = 32, 320, 2_000
KS = (1, 4, 16, 64)


class WithLoss(nn.Module):
    """A model with a loss of its own, as one module that takes a batch's tensors by name."""

    def __init__(self, own: Own, leaves: list[Any], structure: Any) -> None:
        super().__init__()
        self.model, self._loss, self._leaves, self._structure = own.make(), own.loss, leaves, structure

    def forward(self, **parts: Tensor) -> dict[str, Tensor]:
        """``part_0`` …: the tensors of a batch; what is none is the same in all."""
        leaves = [parts.get(f"part_{i}", leaf) for i, leaf in enumerate(self._leaves)]
        return {"loss": self._loss(self.model, tree_unflatten(leaves, self._structure))}


def task_of(own: Own, on: str) -> OwnTask:
    """The task that a study would train."""
    leaves, structure = tree_flatten(own.batch(ROWS, torch.Generator().manual_seed(7)))
    data = {f"part_{i}": leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    spec = StudySpec(
        model=PythonModel(kind="python", entrypoint="benchmarks.own_models:OWN"),
        dataset=PythonDataset(kind="python", entrypoint="benchmarks.own_models:OWN"),
        search=Search(optimizers=["adamw"]), training=Training(steps=HORIZON, batch_size=BATCH), budget=Budget(trials=1),
    )  # fmt: skip
    return OwnSource(spec, lambda: WithLoss(own, leaves, structure), data, device=on).problem()


class TheirLoop:
    """One trial in plain torch, with torch's fused AdamW, data on the device."""

    trials = 1

    def __init__(self, own: Own, on: str) -> None:
        self._own, self._model = own, own.make().to(on).train()
        self._optimizer = torch.optim.AdamW(
            [p for p in self._model.parameters() if p.requires_grad], lr=1e-3, fused=True
        )
        batch = own.batch(ROWS, torch.Generator().manual_seed(7))
        self._batches = [
            tree_map(lambda x, i=i: x[i : i + BATCH].to(on) if isinstance(x, Tensor) else x, batch)
            for i in range(0, ROWS, BATCH)
        ]
        self._at = 0

    def steps(self, n: int) -> None:
        """n steps."""
        for _ in range(n):
            self._optimizer.zero_grad()
            self._own.loss(self._model, self._batches[self._at % len(self._batches)]).backward()
            self._optimizer.step()
            self._at += 1


def measure(name: str, ks: tuple[int, ...], rounds: int, seconds: float, on: str) -> dict[str, Any]:
    """One model: what the proof says, how long it took, and the ratios to the person's own loop."""
    own, started = OWN[name], time.perf_counter()
    task = task_of(own, on)
    proof = task.proof
    proved_s = time.perf_counter() - started
    forms: dict[int, Form] = {k: fastest_form(task, min(k, LARGEST_PACK)).form for k in ks}
    rivals: dict[str, Any] = {"plain": TheirLoop(own, on)}
    peaks = {}
    for k in ks:
        if on != "cpu":
            torch.cuda.reset_peak_memory_stats()
        rivals[f"K={k}"] = Ours(task, k, forms[k], shared=True)
        rivals[f"K={k}"].steps(2)
        if on != "cpu":
            peaks[k] = torch.cuda.max_memory_allocated()
    rates = interleaved(rivals, rounds, seconds)
    plain = rates["plain"]
    return {
        "model": name,
        "parameters": task.parameter_count,
        "equal": proof.equal,
        "reason": proof.reason,
        "proof_s": proved_s,
        "forms": {k: form.model_dump() for k, form in forms.items()},
        "step_ms": 1e3 / statistics.median(plain),
        "ratios": {
            key: statistics.median(a / b for a, b in zip(own_rates, plain, strict=True))
            for key, own_rates in rates.items()
        },
        "peak_bytes": peaks,
        "rates": rates,
    }


def run(
    names: list[str], ks: tuple[int, ...], rounds: int, seconds: float, on: str, say: Callable[[str], None]
) -> list[dict]:
    """All of them, with a line each."""
    say("model               ms alone  proof s  form              " + "".join(f"{f'K={k}':>8}" for k in ks))
    rows = []
    for name in names:
        row = measure(name, ks, rounds, seconds, on)
        form = row["forms"][max(ks)]
        how = f"{form['width']} at once" if form["engine"] == "batched" else "one by one"
        how += ", flat" if form["flat"] else ""
        numbers = "".join(f"{row['ratios'][f'K={k}']:8.2f}" for k in ks)
        say(f"{name:18} {row['step_ms']:9.2f} {row['proof_s']:8.2f}  {how:16}  {numbers}  {row['reason']}")
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="beginnings of models, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one contender in one round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one model, few rounds: only to see that it works")
    parser.add_argument("--out", type=Path, help="write the result here; 'auto': benchmarks/results/own-<device>.json")
    chosen = parser.parse_args(arguments)
    names = [n for n in OWN if n.startswith(tuple(chosen.only.split(",")))]
    ks, rounds, seconds = KS, chosen.rounds, chosen.seconds
    if chosen.quick:
        names, ks, rounds, seconds = names[:1], (1, 4), 2, 0.02
    torch.set_num_threads(1)
    where = device()
    if chosen.device != "cpu":
        where["gpu"] = torch.cuda.get_device_name(chosen.device)
    print(
        f"{where.get('gpu', where['cpu'])}, torch {where['torch']}; ratios of trial-steps per second, above 1 is faster"
    )
    rows = run(names, ks, rounds, seconds, chosen.device, lambda line: print(line, flush=True))
    if chosen.out:
        slug = device_slug({**where, "cpu": where.get("gpu", where["cpu"])})
        out = RESULTS / f"own-{slug}.json" if str(chosen.out) == "auto" else chosen.out
        out.write_text(json.dumps({"device": where, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
