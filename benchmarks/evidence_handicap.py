"""Handicap: AdamW's learning rates cut away from its best one. A rival that wins then has beaten nobody."""

from __future__ import annotations

from typing import Any

from benchmarks.evidence_claims import claims_of
from benchmarks.evidence_play import Trainer, play
from benchmarks.evidence_tables import spec_of
from optim_core.recommend.history import best_of, outcomes

TASKS, SEEDS, TRIALS = ("breast_cancer", "digits", "diabetes"), 5, 50
QUICK = (("diabetes",), 2, 36)
# What is left of AdamW's range ends, or begins, so many times away from its best rate, and is so wide (decades).
CUT, WIDTH = 100.0, 2.0


def handicap(quick: bool, seed: int) -> dict[str, Any]:
    """Goal: never ``better`` for a rival; the range's edge, or too little search, is the reason instead."""
    names, seeds, trials = QUICK if quick else (TASKS, SEEDS, TRIALS)
    print(f"\nHandicap: AdamW's learning rates end {CUT:g} times below its best one, or begin as far above")
    print(f"{'table':16}{'side':7}{'seed':>5}{'best lr':>10}  {'verdict':18}AdamW lacks")
    rows, missed = [], []
    for name in names:
        for place in range(seeds):
            own = 1000 * seed + place + 1
            best = best_rate(name, own)
            for side, low, high in (
                ("below", best / CUT / 10**WIDTH, best / CUT),
                ("above", best * CUT, best * CUT * 10**WIDTH),
            ):
                spec = spec_of(name, own, trials, ranges={"adamw": {"lr": [low, high]}})
                trainer = Trainer(spec)
                found = claims_of(play(spec, trainer.probe(), trainer))
                said = found.reason or found.verdict
                print(f"{name:16}{side:7}{place:5}{best:10.2g}  {said:18}{found.lacks or ''}", flush=True)
                rows.append({"table": name, "side": side, "seed": own, "best": best, **found.document()})
                if found.verdict == "better":
                    missed.append(f"{name}, {side}, seed {own}: {found.winner} is called better")
    return {"rows": rows, "missed": missed}


def best_rate(table: str, seed: int) -> float:
    """AdamW's best learning rate of a grid over the usual range."""
    spec = spec_of(table, seed, 12, optimizers=["adamw"])
    trainer = Trainer(spec)
    best = best_of(outcomes(play(spec, trainer.probe(), trainer), "train"))
    assert best is not None
    assert best.lr is not None
    return best.lr
