"""One row per optimizer: how good, how robust, how dear."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from optim_core.recommend.evidence import Scores
from optim_core.recommend.stats import best_band, expected_best, mean_interval
from optim_core.recommend.verdict import ALPHA
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.recommendation import CurveBand, LeagueRow
from optim_core.spec.trial import Configuration, StudyView, TrialResult

# A learning rate is "as good as the best" within this share of the best metric.
WITHIN = 0.02


def league(view: StudyView, scores: Scores, step_s: dict[str, float]) -> list[LeagueRow]:
    """Rows of every included optimizer, best first: confirmed ones by their score, the others by their best trial."""
    searched = _searched(view)
    rows = [_row(name, searched.get(name, []), scores, step_s) for name in view.spec.search.included()]

    def order(row: LeagueRow) -> tuple[bool, float]:
        return not row.confirmed, math.inf if row.best is None else -scores.sign * row.best

    return sorted(rows, key=order)


Searched = tuple[int, Configuration, TrialResult]


def _searched(view: StudyView) -> dict[str, list[Searched]]:
    """Per optimizer every (rung, configuration, result) of the search, by trial number."""
    found: dict[str, list[Searched]] = {}
    for unit in view.units:
        if unit.spec.kind == "train" and unit.result is not None:
            configurations = {trial.number: trial.configuration for trial in unit.spec.trials}
            for result in unit.result.trials:
                configuration = configurations[result.number]
                found.setdefault(configuration.optimizer, []).append((unit.spec.rung, configuration, result))
    return {name: sorted(rows, key=lambda row: (row[0], row[2].number)) for name, rows in found.items()}


def _row(name: str, searched: list[Searched], scores: Scores, step_s: dict[str, float]) -> LeagueRow:
    mine = [c for c in scores.confirmed if c.configuration.optimizer == name]
    best = max(mine, key=lambda c: scores.sign * float(c.values.mean())) if mine else None
    first = [row for row in searched if row[0] == 0]
    value, configuration = _best_searched(searched) if best is None else (float(best.values.mean()), best.configuration)
    return LeagueRow(
        optimizer=name,
        best=value,
        confirmed=best is not None,
        ci95=mean_interval(best.values, ALPHA) if best else None,
        trials=len(first),
        tuning_curve=_tuning_curve(first, scores.sign),
        divergence_rate=_share_diverged(first),
        lr_width_decades=_lr_width(first, scores.sign),
        step_s=step_s.get(name),
        state_bytes_per_parameter=OPTIMIZERS[name].state_bytes_per_parameter,
        configuration=configuration,
    )


def _best_searched(searched: list[Searched]) -> tuple[float | None, Configuration | None]:
    alive = [row for row in searched if row[2].metric is not None]
    if not alive:
        return None, None
    top = max(row[0] for row in alive)
    best = min((row for row in alive if row[0] == top), key=lambda row: (row[2].objective, row[2].number))
    return best[2].metric, best[1]


def _share_diverged(first: list[Searched]) -> float:
    return sum(row[2].diverged_at_step is not None for row in first) / len(first) if first else 0.0


def _gains(first: list[Searched], sign: int) -> NDArray[np.float64]:
    """Metrics turned so that larger is better; a diverged trial counts as the worst one seen."""
    alive = [sign * row[2].metric for row in first if row[2].metric is not None]
    worst = min(alive, default=0.0)
    return np.array([worst if row[2].metric is None else sign * row[2].metric for row in first])


def _tuning_curve(first: list[Searched], sign: int) -> list[CurveBand]:
    """Expected best metric after n trials on the first rung, at n = 1, 2, 4, … and all."""
    if not first or all(row[2].metric is None for row in first):
        return []
    gains, total = _gains(first, sign), len(first)
    counts = sorted({min(2**i, total) for i in range(total.bit_length() + 1)})
    curve = []
    for n in counts:
        ends = sorted(sign * end for end in best_band(gains, n))
        curve.append(CurveBand(n=n, expected=sign * expected_best(gains, n), low=ends[0], high=ends[1]))
    return curve


def _lr_width(first: list[Searched], sign: int) -> float | None:
    """Decades between the smallest and the largest learning rate within 2 % of the best; None with under 3 trials, and
    for methods without a learning rate.
    """
    alive = [row for row in first if row[2].metric is not None and "lr" in row[1].hyperparameters]
    if len(alive) < 3:
        return None
    gains = [sign * float(row[2].metric or 0.0) for row in alive]
    best = max(gains)
    rates = [
        float(row[1].hyperparameters["lr"])
        for row, gain in zip(alive, gains, strict=True)
        if gain >= best - WITHIN * abs(best)
    ]
    return math.log10(max(rates) / min(rates))
