"""False prunes: how often a search drops the configuration that would have been its best, at equal trial-steps.

On the oracle, whose short runs and half-way looks mislead as real ones do, and on one real task, where every configuration
that anybody tried is trained in full as well.
"""

from __future__ import annotations

import math
import statistics
from functools import cache
from typing import Any

from benchmarks.evidence_oracle import result
from benchmarks.evidence_play import search
from benchmarks.evidence_tasks import TABLE, OracleRuns, Runs, TableRuns
from benchmarks.strategies import STRATEGIES
from optim_core.recommend.history import outcomes
from optim_core.search.budget import SEARCH_SHARE
from optim_core.spec.trial import WORST_VALUE, StudyView, UnitResult, UnitSpec

# Full trainings that a search may spend: few, so that ours has rungs too.
TRAININGS = {"oracle": (12, 30), TABLE: (12,)}
SEARCHES = {"oracle": 120, TABLE: 10}
# Dropping the best is costly where nothing that was kept comes as near to it as this share.
MARGIN = 0.01
PRUNING = ("median", "ASHA", "Hyperband")


def prunes(quick: bool, seed: int) -> dict[str, Any]:
    """Goal: costly false prunes in fewer searches than with median, ASHA and Hyperband, at the same number of trial-steps."""
    print("\nFalse prunes: the best configuration that a search tried was not trained in full; equal trial-steps")
    print(
        f"{'task':10}{'trainings':>10}  {'strategy':12}{'dropped':>9}{'costly':>8}{'tried':>8}{'in full':>8}"
        f"{'pick':>10}{'regret':>10}"
    )
    rows, missed = [], []
    for task, count in ({"oracle": 10} if quick else SEARCHES).items():
        for trainings in TRAININGS[task][: 1 if quick else None]:
            own = {name: _row(task, name, trainings, count, seed) for name in STRATEGIES}
            rows += own.values()
            for name in PRUNING:
                if _more(own["ours"]["costly"], own[name]["costly"], count):
                    missed.append(
                        f"{task}, {trainings} trainings: costly false prunes in {own['ours']['costly']} of {count} searches "
                        f"of ours, in {own[name]['costly']} of {name}"
                    )
    return {"rows": rows, "missed": missed}


def _more(ours: int, theirs: int, count: int) -> bool:
    """Whether ours of ``count`` is more than theirs by more than two standard errors of the difference of two shares."""
    share = (ours + theirs) / (2 * count)
    return ours - theirs > 2 * math.sqrt(2 * count * share * (1 - share))


def _row(task: str, name: str, trainings: int, count: int, seed: int) -> dict[str, Any]:
    found = [_search(_runs(task, 10_000 * seed + place + 1), name, trainings) for place in range(count)]
    row = {"task": task, "strategy": name, "trainings": trainings, "searches": count}
    row |= {key: sum(one[key] for one in found) for key in ("dropped", "costly")}
    row |= {key: statistics.fmean(one[key] for one in found) for key in ("tried", "in_full", "pick", "regret", "steps")}
    print(
        f"{task:10}{trainings:10}  {name:12}{row['dropped'] / count:9.3f}{row['costly'] / count:8.3f}{row['tried']:8.1f}"
        f"{row['in_full']:8.1f}{row['pick']:10.4f}{row['regret']:10.4f}",
        flush=True,
    )
    return row


def _runs(task: str, seed: int) -> Runs:
    return OracleRuns(seed) if task == "oracle" else _table(seed)


@cache
def _table(seed: int) -> TableRuns:
    """What one strategy has trained in full need not be trained for another."""
    return TableRuns(seed)


def run_search(runs: Runs, name: str, trainings: int) -> StudyView:
    """One search of a strategy with steps for so many full trainings."""
    strategy = STRATEGIES[name]()
    far: dict[int, int] = {}

    def answer(unit: UnitSpec) -> UnitResult:
        # Who continues a run pays for its further steps alone.
        steps = sum(unit.horizon - (far.get(t.number, 0) if strategy.continues else 0) for t in unit.trials)
        far.update({t.number: unit.horizon for t in unit.trials})
        return result(unit, runs.train(unit, strategy.continues), steps)

    steps = round(trainings * runs.report.full_horizon / SEARCH_SHARE)
    return search(runs.spec(steps), runs.report, answer, strategy)


def _search(runs: Runs, name: str, trainings: int) -> dict[str, Any]:
    """One search. ``pick``: what its best at full length is worth; ``regret``: that minus the best that it tried."""
    view, horizon = run_search(runs, name, trainings), runs.report.full_horizon
    worth = runs.full([u.spec for u in view.units if u.spec.kind == "train"])
    complete = [o for o in outcomes(view, "train") if o.horizon == horizon]
    kept = {o.trial.number: worth[o.trial.number] for o in complete}
    best = min(worth, key=lambda number: (worth[number], number))
    pick = min(complete, key=lambda o: o.rank, default=None)
    value = kept[pick.trial.number] if pick is not None else max(worth.values())
    return {
        "dropped": best not in kept,
        "costly": min(kept.values(), default=WORST_VALUE) - worth[best] > MARGIN * abs(worth[best]),
        "tried": len(worth),
        "in_full": len(kept),
        "pick": value,
        "regret": value - worth[best],
        "steps": sum(u.result.train_steps for u in view.units if u.result is not None),
    }
