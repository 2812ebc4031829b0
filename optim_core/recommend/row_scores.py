"""Row scores: what each row says about a configuration, so that an interval can speak of new rows.

A configuration is a list over the folds k (five, or one for a declared split) of arrays (w, S, n_k): what was stored for each
row of fold k, always in the same order. Axis 0: the run (k, s), which had fold k as its test split, and with w = 2 the run
(k − 1, s), for which fold k was the unused validation split. Axis 1: the seeds. What is stored: accuracy 1 or 0; loss and
perplexity the row's loss; mae its absolute, rmse and r2 its squared error; score and error what the person's function gives
for it; f1 the predicted code; auroc the row's influence value in its own run's block (DeLong et al. 1988), whose mean over the
block is the run's area. A run that diverged is NaN throughout.

The score u of a row is such that the mean of all scores is the pooled estimate and their spread is its sampling error: for a
mean the stored value itself, for other metrics estimate + influence of the row (delta method, Efron & Tibshirani 1993, §21).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.spec.problem import sign_of

Values = NDArray[np.float64]
Folds = Sequence[Values]
# Metrics whose targets have to be given: class codes or true values, one array (n_k,) per fold.
NEEDS_TARGETS = frozenset({"f1", "auroc", "r2"})
# A loss above it has a perplexity that no float holds.
MOST_NATS = 700.0
# What a diverged run is given on every row where the metric has a worst value: wrong, no class at all, nothing ranked.
_WORST = {"accuracy": 0.0, "auroc": 0.0, "f1": -1.0}


@dataclass(frozen=True)
class RowScores:
    """``value``: the pooled estimate in the metric's own direction; ``rows``: per fold (w, S, n_k), whose mean it is."""

    value: float
    rows: list[Values]


def filled(configurations: Sequence[Folds], metric: str, targets: Folds | None = None) -> list[list[Values]]:
    """The configurations without NaN: a run that diverged, (w, s) with any value not finite, gets the worst on each row.

    With a worst value (accuracy, f1, auroc): that, on all rows. Not the worst that others had on the row: where the others are
    never wrong, it would make a broken run perfect. Without (losses and errors): the largest that any run of the given
    configurations had on the row. ``targets`` only has its lengths checked. Raises ValueError when there is no such run.
    """
    if targets is not None and [len(y) for y in targets] != [fold.shape[-1] for fold in configurations[0]]:
        raise ValueError("targets and row scores have different rows")
    worst: list[Values] = []
    for k in range(len(configurations[0])):
        runs = np.concatenate([_float(each[k]).reshape(-1, each[k].shape[-1]) for each in configurations])
        finite = runs[np.isfinite(runs).all(axis=-1)]
        if metric in _WORST:
            worst.append(np.full(runs.shape[-1], _WORST[metric]))
        elif len(finite):
            worst.append(finite.max(axis=0))
        else:
            raise ValueError(f"every run that was scored on fold {k} diverged")
    return [
        [
            np.where(np.isfinite(_float(fold)).all(axis=-1, keepdims=True), fold, bad)
            for fold, bad in zip(each, worst, strict=True)
        ]
        for each in configurations
    ]


def row_scores(configuration: Folds, metric: str, targets: Folds | None = None) -> RowScores:
    """Pooled estimate and row scores of one configuration without NaN (see ``filled``). Raises ValueError without targets
    for a metric of ``NEEDS_TARGETS``."""
    if metric in NEEDS_TARGETS and targets is None:
        raise ValueError(f"{metric} needs the targets of its rows")
    return _METRICS.get(metric, _mean)([_float(fold) for fold in configuration], targets or [])


def difference_scores(
    rival: Folds, base: Folds, metric: str, targets: Folds | None = None
) -> tuple[RowScores, RowScores, RowScores]:
    """Scores of rival − base, larger is better, whatever the metric's direction; then those of the rival and of the base."""
    a, b = row_scores(rival, metric, targets), row_scores(base, metric, targets)
    sign = sign_of(metric)
    rows = [sign * (x - y) for x, y in zip(a.rows, b.rows, strict=True)]
    return RowScores(sign * (a.value - b.value), rows), a, b


def unlike(rival: Folds, base: Folds, metric: str, targets: Folds | None = None) -> int:
    """How many rows were ever judged differently, in any of their w·S pairs of runs; of accuracy the rows that were not
    always worse, not always equal or not always better, whichever are fewest: all of them may differ in the same way.

    The area under the curve is in all values of auroc; so there the rows whose difference is not that of most rows of their
    class in the same pair of runs count.
    """
    count = np.zeros(3, dtype=np.int64)
    for k, (x, y) in enumerate(zip(rival, base, strict=True)):
        apart = _float(x) - _float(y)
        if metric == "auroc" and targets is not None:
            count += int(_beside_most(apart, targets[k]).any(axis=(0, 1)).sum())
        elif metric == "accuracy":
            count += [int((apart != level).any(axis=(0, 1)).sum()) for level in (-1.0, 0.0, 1.0)]
        else:
            count += int((apart != 0).any(axis=(0, 1)).sum())
    return int(count.min())


def row_unit(rival: Folds, base: Folds, metric: str, targets: Folds | None = None) -> float:
    """By how much the metric's row score moves when one row is judged otherwise; 0 for metrics without such a step.

    accuracy 1. f1: 2 / mean(pred + y) of the rarest class, over the number of classes. auroc: 1 / min(share of positives, of
    negatives); of several classes the same for each against the rest, divided by their number and summed over the one whose
    positive the row is and the others, at the worst.
    """
    if metric == "accuracy":
        return 1.0
    if metric not in ("f1", "auroc"):
        return 0.0
    if targets is None:
        raise ValueError(f"{metric} needs the targets of its rows")
    truth = np.concatenate([np.asarray(y) for y in targets])
    classes, counts = np.unique(truth, return_counts=True)
    share = counts / len(truth)
    if metric == "auroc":
        if len(classes) < 3:
            return float(1 / min(share.min(), 1 - share.min())) if len(classes) == 2 else 1.0
        rest = 1 / (1 - share)
        return float((1 / share + rest.sum() - rest).max() / len(classes))
    predicted = [
        min(
            np.mean(np.concatenate([(_float(fold) == code).mean(axis=(0, 1)) for fold in each]))
            for each in (rival, base)
        )
        for code in classes
    ]
    return float(2 / ((share + predicted).min() * len(classes)))


def _mean(configuration: Folds, _targets: Folds) -> RowScores:
    return RowScores(_pooled(configuration), list(configuration))


def _rmse(configuration: Folds, _targets: Folds) -> RowScores:
    """√M with M the pooled mean squared error; u = √M + (e² − M)/(2√M)."""
    m = _pooled(configuration)
    root = float(np.sqrt(m))
    if root == 0:
        return RowScores(0.0, list(configuration))
    return RowScores(root, [root + (fold - m) / (2 * root) for fold in configuration])


def _perplexity(configuration: Folds, _targets: Folds) -> RowScores:
    """exp(M) with M the pooled mean loss; u = exp(M)·(1 + loss − M)."""
    m = _pooled(configuration)
    value = float(np.exp(min(m, MOST_NATS)))
    return RowScores(value, [value * (1 + fold - m) for fold in configuration])


def _r2(configuration: Folds, targets: Folds) -> RowScores:
    """1 − M/V with V the variance of all targets; influence −(e² − M)/V + (M/V²)((y − ȳ)² − V). A constant target gives 1
    when hit exactly, else 0, as in ``tasks.metrics``."""
    truth = np.concatenate([_float(y) for y in targets])
    m, mean, v = _pooled(configuration), float(truth.mean()), float(truth.var())
    if v == 0:
        value = 1.0 if m == 0 else 0.0
        return RowScores(value, [np.full(fold.shape, value) for fold in configuration])
    value = 1 - m / v
    rows = [
        value - (fold - m) / v + (m / v) * ((_float(y) - mean) ** 2 / v - 1)
        for fold, y in zip(configuration, targets, strict=True)
    ]
    return RowScores(value, rows)


def _f1(configuration: Folds, targets: Folds) -> RowScores:
    """Macro F1 of pooled counts: per class F = 2Σtp / Σ(pred + y), u = F + (2tp − F(pred + y)) / mean(pred + y), averaged.

    Over the classes that the truth holds. scikit-learn counts a class that is only ever predicted as an F1 of 0; then a
    single run that names it once would take a whole share from the pooled value.
    """
    classes = np.unique(np.concatenate([np.asarray(y) for y in targets]))
    value, rows = 0.0, [np.zeros(fold.shape) for fold in configuration]
    for code in classes:
        seen = [(fold == code).astype(np.float64) + (y == code) for fold, y in zip(configuration, targets, strict=True)]
        hit = [2.0 * (pair == 2) for pair in seen]
        each = _pooled(seen)
        f = _pooled(hit) / each
        value += f / len(classes)
        for row, two_tp, pair in zip(rows, hit, seen, strict=True):
            row += (f + (two_tp - f * pair) / each) / len(classes)
    return RowScores(value, rows)


_METRICS: dict[str, Callable[[Folds, Folds], RowScores]] = {
    "rmse": _rmse, "perplexity": _perplexity, "r2": _r2, "f1": _f1,
}  # fmt: skip


def _float(values: NDArray) -> Values:
    return np.asarray(values, dtype=np.float64)


def _pooled(configuration: Folds) -> float:
    """Mean over all runs and rows; every row has as many runs."""
    total = sum(fold.shape[-1] for fold in configuration)
    return float(sum(fold.mean(axis=(0, 1)).sum() for fold in configuration) / total)


def _beside_most(apart: Values, truth: NDArray) -> Values:
    """(w, S, n) → whether a row's difference is not the median one of its class in the same pair of runs, which is that of
    most rows where few were judged differently. Stored values are float32; a step of a placement is far larger."""
    beside = np.zeros(apart.shape, dtype=bool)
    close = 1e-6 * np.abs(apart).max(initial=0.0)
    for code in np.unique(truth):
        own = np.asarray(truth) == code
        beside[..., own] = np.abs(apart[..., own] - np.median(apart[..., own], axis=-1, keepdims=True)) > close
    return beside
