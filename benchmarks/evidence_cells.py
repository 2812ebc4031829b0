"""One cell: many tables of one source, judged by the rule of the verdict, against the truth of rows held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.evidence_nets import Setting
from benchmarks.evidence_runs import Design, Runs, configuration, confirm, stored
from benchmarks.evidence_sources import SOURCES
from optim_core.recommend.interval import Difference, difference, score_interval
from optim_core.recommend.looks import LOOK_ALPHA
from optim_core.recommend.row_scores import NEEDS_TARGETS, difference_scores, row_scores
from optim_core.spec.problem import PERFECT

ALPHA = 0.05
BASE = "adamw"
# The base again with seeds of its own: no difference in truth. A near rival and a farther one.
RIVALS: dict[str, tuple[Setting, int]] = {
    "null": (Setting("adamw", 0.04), 1),
    "nesterov": (Setting("nesterov", 0.1), 0),
    "slower": (Setting("adamw", 0.025), 0),
}
_SETTINGS = {BASE: (Setting("adamw", 0.04), 0), **RIVALS}
LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
TEETH = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)


@dataclass(frozen=True)
class Cell:
    """``rows`` of a fold; ``seeds``: of each look, ascending; ``wide``: 2 where runs are scored on validation rows too."""

    source: str
    rows: int
    folds: int
    seeds: tuple[int, ...]
    wide: int
    metrics: tuple[str, ...]
    tables: int
    held: int

    @property
    def name(self) -> str:
        """For tables and files."""
        scored = self.rows * self.folds
        return f"{self.source}, {scored} rows scored, {self.folds} fold{'s' * (self.folds > 1)}"


def measure(cell: Cell, seed: int, rivals: Sequence[str] = tuple(RIVALS)) -> dict[str, Any]:
    """Train and judge a cell. Every pair at α = .05 with the seeds of each look, and with looks."""
    large = cell.rows >= 150
    design = Design(cell.rows, cell.folds, max(cell.seeds), 128 if large else 32, 200 if large else 120)
    settings = {name: _SETTINGS[name] for name in (BASE, *rivals)}
    held = 16 if tuple(rivals) == ("null",) else cell.held
    runs = confirm(cell.source, design, settings, cell.tables, held, seed)
    found = [row for metric in cell.metrics for rival in rivals for row in _judged(cell, design, runs, metric, rival)]
    scores = [_single(cell, design, runs, metric) for metric in cell.metrics] if tuple(rivals) != ("null",) else []
    return {"cell": asdict(cell), "name": cell.name, "pairs": found, "scores": scores}


def _single(cell: Cell, design: Design, runs: Runs, metric: str) -> dict[str, Any]:
    """How often the interval of the base's own score holds its score on rows held out, with the first look's seeds."""
    values = stored(metric, runs.outputs[BASE].folds, _targets_of_scored(runs.y, cell.folds))
    held = [fold[None] for fold in stored(metric, runs.outputs[BASE].held, runs.y_held[:, None])]
    truth = row_scores(held, metric, list(runs.y_held)).value
    covered = 0
    for t in range(cell.tables):
        folds = configuration(values[t], cell.folds, cell.wide, range(cell.seeds[0]))
        targets = list(runs.y[t, : cell.folds])
        found = score_interval(folds, metric, alpha=ALPHA, targets=targets, train_rows=design.train_rows)
        covered += found.low <= truth <= found.high
    return {"metric": metric, "truth": truth, "seeds": cell.seeds[0], "tables": cell.tables, "covered": int(covered)}


def _judged(cell: Cell, design: Design, runs: Runs, metric: str, rival: str) -> list[dict[str, Any]]:
    truth, truth_se, level = (0.0, 0.0, _level(runs, metric)) if rival == "null" else _truth(runs, metric, rival)
    margin = margin_of(metric, level)
    of_rows = {
        name: stored(metric, runs.outputs[name].folds, _targets_of_scored(runs.y, cell.folds)) for name in (rival, BASE)
    }
    looks: list[list[Difference]] = []
    rows = []
    for seeds in cell.seeds:
        found = []
        for t in range(cell.tables):
            pair = [configuration(of_rows[name][t], cell.folds, cell.wide, range(seeds)) for name in (rival, BASE)]
            targets = list(runs.y[t, : cell.folds]) if metric in NEEDS_TARGETS else None
            found.append(
                difference(*pair, metric, alpha=ALPHA, targets=targets, train_rows=design.train_rows)  # type: ignore[misc]
            )
        looks.append(found)
        rows.append(
            {"metric": metric, "rival": rival, "seeds": seeds, "truth": truth, "truth_se": truth_se, "margin": margin}
            | summary(found, truth, truth_se, margin, cell.folds)
        )
    if len(looks) > 1:
        rows.append(
            {"metric": metric, "rival": rival, "seeds": "looks", "truth": truth, "margin": margin}
            | at_looks(looks, cell)
        )
    return rows


def summary(found: list[Difference], truth: float, truth_se: float, margin: float, folds: int) -> dict[str, Any]:
    """What T differences at ALPHA say about one truth. Both directions of a pair count: each is a claim somebody could make.

    ``u``: how often the truth lies below the confidence distribution's quantiles LEVELS; it should be LEVELS itself.
    ``teeth``: by probability from ½ up, in whichever direction: how many, and how many of them are right.
    """
    mean, half = np.array([f.mean for f in found]), np.array([f.half for f in found])
    low, high = np.array([f.low for f in found]), np.array([f.high for f in found])
    df = np.array([f.spread.df for f in found])
    known = abs(truth) > 2 * truth_se
    wrong = (low > 0) & (truth < 0) | (high < 0) & (truth > 0)
    safe = np.maximum(half, 1e-300)
    u = stats.t.cdf(stats.t.ppf(0.975, df) * (truth - mean) / safe, df)
    probability = np.array([f.probability for f in found])
    toward = np.where(probability >= 0.5, 1, -1) * truth > 0
    tooth = np.clip(
        np.searchsorted(TEETH, np.maximum(probability, 1 - probability), side="right") - 1, 0, len(TEETH) - 2
    )
    return {
        "tables": len(found),
        "covered": int(((low <= truth) & (truth <= high)).sum()),
        "half": float(half.mean()),
        "sd": float(mean.std(ddof=1)),
        "bias": float(mean.mean() - truth),
        "claims": [int((low > 0).sum()), int((high < 0).sum())],
        "wrong": int(wrong.sum()) if known else None,
        "above_margin": [int(((low > 0) & (mean > margin)).sum()), int(((high < 0) & (-mean > margin)).sum())],
        "no_difference": int((high <= margin).sum()),
        "power": {str(m): float((mean - truth + m * margin > np.maximum(half, margin)).mean()) for m in (2, 3)},
        "u": [float((u <= level).mean()) for level in LEVELS],
        "teeth": [[int((tooth == i).sum()), int(toward[tooth == i].sum())] for i in range(len(TEETH) - 1)]
        if known
        else None,
        "trainings": folds * found[0].spread.seeds,
    }


def at_looks(looks: list[list[Difference]], cell: Cell) -> dict[str, Any]:
    """Two looks at their own alphas, the second only where the first claimed nothing in either direction."""
    up = down = first = 0
    for pair in zip(*looks, strict=True):
        for place, (one, alpha) in enumerate(zip(pair, LOOK_ALPHA, strict=True)):
            half = half_at(one, alpha)
            if abs(one.mean) > half:
                up, down, first = up + (one.mean > 0), down + (one.mean < 0), first + (place == 0)
                break
    tables = len(looks[0])
    trained = cell.folds * (cell.seeds[0] * first + cell.seeds[1] * (tables - first)) / tables
    return {"tables": tables, "claims": [up, down], "first": first, "trainings": trained}


def half_at(found: Difference, alpha: float) -> float:
    """The half width at another alpha."""
    return max(found.spread.half_width(alpha), found.floor * math.log(alpha) / math.log(found.alpha))


def margin_of(metric: str, level: float) -> float:
    """1 % of the metric, or 20 % of what is missing to a perfect score where that is less."""
    margin = 0.01 * abs(level)
    return min(margin, 0.2 * (PERFECT[metric] - level)) if metric in PERFECT else margin


def _targets_of_scored(y: np.ndarray, folds: int) -> np.ndarray:
    """(T, 5, n) → (T, K, 1, 2, n): of a run's test rows and its validation rows, the next fold."""
    return np.stack([y, np.roll(y, -1, axis=1)], axis=2)[:, :folds, None]


def _level(runs: Runs, metric: str) -> float:
    """The base's score on its tables."""
    y = _targets_of_scored(runs.y, 1)[:, 0, :, 0]
    rows = stored(metric, runs.outputs[BASE].folds[:, 0, :, 0], y)
    return row_scores([fold[None] for fold in rows], metric, [t[0] for t in y]).value


def _truth(runs: Runs, metric: str, rival: str) -> tuple[float, float, float]:
    """The difference on all rows held out, its standard error over tables, and the base's score there."""
    a, b = (
        [fold[None] for fold in stored(metric, runs.outputs[name].held, runs.y_held[:, None])] for name in (rival, BASE)
    )
    scores, _, base = difference_scores(a, b, metric, list(runs.y_held))
    means = np.array([fold.mean() for fold in scores.rows])
    return scores.value, float(means.std(ddof=1) / math.sqrt(len(means))), base.value


def metrics_of(source: str) -> tuple[str, ...]:
    """The metrics that a source is judged by."""
    if SOURCES[source].classes == 0:
        return ("rmse", "r2", "mae")
    return ("accuracy", "f1", "auroc")
