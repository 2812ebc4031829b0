"""Row scores: what each row says about a configuration, so that an interval can speak of new rows.

A configuration is a list over the folds k (five, or one for a declared split) of arrays (w, S, n_k): what was stored for each
row of fold k, always in the same order. Axis 0: the run (k, s), which had fold k as its test split, and with w = 2 the run
(k − 1, s), for which fold k was the unused validation split. Axis 1: the seeds. What is stored: accuracy and balanced_accuracy
1 or 0; losses and perplexity the row's loss; mae and mape its absolute or relative, rmse and r2 its squared error; score and
error what the person's function gives for it; f1 the predicted code; auroc and average_precision the row's influence value in
its own run's block (``tasks.ranked``), whose mean over the block is the run's. A run that diverged is NaN throughout.

The score u of a row is such that the mean of all scores is the pooled estimate and their spread is its sampling error: for a
mean the stored value itself, for other metrics estimate + influence of the row (delta method, Efron & Tibshirani 1993, §21).
``weights``: per fold (n_k,) sample weights. They weigh every mean; the influence of a row is its weight over their mean times
that of a row among others of weight 1 (for a mean the linearised ratio Σw·v/Σw, Särndal et al. 1992, §5.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.spec.metrics import RANKED
from optim_core.spec.problem import sign_of

Values = NDArray[np.float64]
Folds = Sequence[Values]
# Metrics whose targets have to be given: class codes or true values, one array (n_k,) per fold.
NEEDS_TARGETS = frozenset({"f1", "balanced_accuracy", "r2", *RANKED})
# Of which 1 or 0 is stored, right or wrong.
HITS = frozenset({"accuracy", "balanced_accuracy"})
# A loss above it has a perplexity that no float holds.
MOST_NATS = 700.0
# What a diverged run is given on every row where the metric has a worst value: wrong, no class at all, nothing ranked.
_WORST = {**dict.fromkeys((*HITS, *RANKED), 0.0), "f1": -1.0}


@dataclass(frozen=True)
class RowScores:
    """``value``: the pooled estimate in the metric's own direction; ``rows``: per fold (w, S, n_k), whose mean it is."""

    value: float
    rows: list[Values]


def filled(configurations: Sequence[Folds], metric: str, targets: Folds | None = None) -> list[list[Values]]:
    """The configurations without NaN: a run that diverged, (w, s) with any value not finite, gets the worst on each row.

    With a worst value (those of classes but for losses): that, on all rows. Not the worst that others had on the row: where the
    others are never wrong, it would make a broken run perfect. Without: the largest loss or error, or the lowest score, that
    any run of the given configurations had on the row. ``targets`` only has its lengths checked. Raises ValueError when there
    is no such run.
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
            worst.append(finite.min(axis=0) if metric == "score" else finite.max(axis=0))
        else:
            raise ValueError(f"every run that was scored on fold {k} diverged")
    return [
        [
            np.where(np.isfinite(_float(fold)).all(axis=-1, keepdims=True), fold, bad)
            for fold, bad in zip(each, worst, strict=True)
        ]
        for each in configurations
    ]


def row_scores(
    configuration: Folds, metric: str, targets: Folds | None = None, weights: Folds | None = None
) -> RowScores:
    """Pooled estimate and row scores of one configuration without NaN (see ``filled``). Raises ValueError without targets
    for a metric of ``NEEDS_TARGETS``."""
    if metric in NEEDS_TARGETS and targets is None:
        raise ValueError(f"{metric} needs the targets of its rows")
    each = _shares(configuration, weights)
    found = _METRICS.get(metric, _mean)([_float(fold) for fold in configuration], targets or [], each)
    if weights is None:
        return found
    value = found.value
    return RowScores(value, [value + w * (rows - value) for rows, w in zip(found.rows, each, strict=True)])


def difference_scores(
    rival: Folds, base: Folds, metric: str, targets: Folds | None = None, weights: Folds | None = None
) -> tuple[RowScores, RowScores, RowScores]:
    """Scores of rival − base, larger is better, whatever the metric's direction; then those of the rival and of the base."""
    a, b = row_scores(rival, metric, targets, weights), row_scores(base, metric, targets, weights)
    sign = sign_of(metric)
    rows = [sign * (x - y) for x, y in zip(a.rows, b.rows, strict=True)]
    return RowScores(sign * (a.value - b.value), rows), a, b


def unlike(rival: Folds, base: Folds, metric: str, targets: Folds | None = None) -> int:
    """How many rows were ever judged differently, in any of their w·S pairs of runs; of right or wrong the rows that were not
    always worse, not always equal or not always better, whichever are fewest: all of them may differ in the same way.

    Of ranks the whole run's score is in all values; so there the rows whose difference is not that of most rows of their class
    in the same pair of runs count.
    """
    count = np.zeros(3, dtype=np.int64)
    for k, (x, y) in enumerate(zip(rival, base, strict=True)):
        apart = _float(x) - _float(y)
        if metric in RANKED and targets is not None:
            count += int(_beside_most(apart, targets[k]).any(axis=(0, 1)).sum())
        elif metric in HITS:
            count += [int((apart != level).any(axis=(0, 1)).sum()) for level in (-1.0, 0.0, 1.0)]
        else:
            count += int((apart != 0).any(axis=(0, 1)).sum())
    return int(count.min())


def row_unit(
    rival: Folds, base: Folds, metric: str, targets: Folds | None = None, weights: Folds | None = None
) -> float:
    """By how much the metric's row score moves when one row is judged otherwise; 0 for metrics without such a step. Of rows
    with ``weights`` at the worst.

    accuracy 1; balanced_accuracy 1 / share of the rarest class, over the number of classes. f1: 2 / mean(pred + y) of the
    rarest class, over the number of classes. auroc: 1 / min(share of positives, of negatives); of several classes the same for
    each against the rest, divided by their number and summed over the one whose positive the row is and the others, at the
    worst. average_precision: (1 + ½ + … + 1/n₁) / share of positives, which a negative costs that moves from below all n₁ of a
    run to above them; of several classes the mean over them.
    """
    heaviest = 1.0 if weights is None else max(float(w.max()) for w in _shares(rival, weights))
    if metric == "accuracy":
        return heaviest
    if metric not in (NEEDS_TARGETS - {"r2"}):
        return 0.0
    if targets is None:
        raise ValueError(f"{metric} needs the targets of its rows")
    return heaviest * _step(rival, base, metric, targets)


def _step(rival: Folds, base: Folds, metric: str, targets: Folds) -> float:
    truth = np.concatenate([np.asarray(y) for y in targets])
    classes, counts = np.unique(truth, return_counts=True)
    share = counts / len(truth)
    if metric == "balanced_accuracy":
        return float(1 / share.min() / len(classes))
    if metric == "average_precision":
        most = [max(int((np.asarray(y) == code).sum()) for y in targets) for code in classes]
        costs = [float((1 / np.arange(1, n + 1)).sum()) / own for n, own in zip(most, share, strict=True)]
        return costs[-1] if len(classes) < 3 else float(np.mean(costs))
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


def _mean(configuration: Folds, _targets: Folds, w: Folds) -> RowScores:
    return RowScores(_pooled(configuration, w), list(configuration))


def _rmse(configuration: Folds, _targets: Folds, w: Folds) -> RowScores:
    """√M with M the pooled mean squared error; u = √M + (e² − M)/(2√M)."""
    m = _pooled(configuration, w)
    root = float(np.sqrt(m))
    if root == 0:
        return RowScores(0.0, list(configuration))
    return RowScores(root, [root + (fold - m) / (2 * root) for fold in configuration])


def _perplexity(configuration: Folds, _targets: Folds, w: Folds) -> RowScores:
    """exp(M) with M the pooled mean loss; u = exp(M)·(1 + loss − M)."""
    m = _pooled(configuration, w)
    value = float(np.exp(min(m, MOST_NATS)))
    return RowScores(value, [value * (1 + fold - m) for fold in configuration])


def _r2(configuration: Folds, targets: Folds, w: Folds) -> RowScores:
    """1 − M/V with V the variance of all targets; influence −(e² − M)/V + (M/V²)((y − ȳ)² − V). A constant target gives 1
    when hit exactly, else 0, as in ``tasks.metrics``."""
    truth, each = np.concatenate([_float(y) for y in targets]), np.concatenate(w)
    mean = float(np.average(truth, weights=each))
    m, v = _pooled(configuration, w), float(np.average((truth - mean) ** 2, weights=each))
    if v == 0:
        value = 1.0 if m == 0 else 0.0
        return RowScores(value, [np.full(fold.shape, value) for fold in configuration])
    value = 1 - m / v
    rows = [
        value - (fold - m) / v + (m / v) * ((_float(y) - mean) ** 2 / v - 1)
        for fold, y in zip(configuration, targets, strict=True)
    ]
    return RowScores(value, rows)


def _balanced(configuration: Folds, targets: Folds, w: Folds) -> RowScores:
    """Mean over the classes of R = Σhit/Σy; u of a row of the class R + (hit − R)/mean(y), else R, averaged."""
    classes = np.unique(np.concatenate([np.asarray(y) for y in targets]))
    value, rows = 0.0, [np.zeros(fold.shape) for fold in configuration]
    for code in classes:
        of_class = [np.asarray(y) == code for y in targets]
        own = [np.broadcast_to(y, fold.shape) * 1.0 for fold, y in zip(configuration, of_class, strict=True)]
        share = _pooled(own, w)
        recall = _pooled([fold * mine for fold, mine in zip(configuration, own, strict=True)], w) / share
        value += recall / len(classes)
        for row, hit, mine in zip(rows, configuration, own, strict=True):
            row += (recall + mine * (hit - recall) / share) / len(classes)
    return RowScores(value, rows)


def _f1(configuration: Folds, targets: Folds, w: Folds) -> RowScores:
    """Macro F1 of pooled counts: per class F = 2Σtp / Σ(pred + y), u = F + (2tp − F(pred + y)) / mean(pred + y), averaged.

    Over the classes that the truth holds. scikit-learn counts a class that is only ever predicted as an F1 of 0; then a
    single run that names it once would take a whole share from the pooled value.
    """
    classes = np.unique(np.concatenate([np.asarray(y) for y in targets]))
    value, rows = 0.0, [np.zeros(fold.shape) for fold in configuration]
    for code in classes:
        seen = [(fold == code).astype(np.float64) + (y == code) for fold, y in zip(configuration, targets, strict=True)]
        hit = [2.0 * (pair == 2) for pair in seen]
        each = _pooled(seen, w)
        f = _pooled(hit, w) / each
        value += f / len(classes)
        for row, two_tp, pair in zip(rows, hit, seen, strict=True):
            row += (f + (two_tp - f * pair) / each) / len(classes)
    return RowScores(value, rows)


_METRICS: dict[str, Callable[[Folds, Folds, Folds], RowScores]] = {
    "rmse": _rmse, "perplexity": _perplexity, "r2": _r2, "f1": _f1, "balanced_accuracy": _balanced,
}  # fmt: skip


def _float(values: NDArray) -> Values:
    return np.asarray(values, dtype=np.float64)


def _pooled(configuration: Folds, w: Folds) -> float:
    """Mean over all runs and rows; every row has as many runs. ``w``: see ``_shares``."""
    total = sum(fold.shape[-1] for fold in configuration)
    return float(sum((fold.mean(axis=(0, 1)) * own).sum() for fold, own in zip(configuration, w, strict=True)) / total)


def _shares(configuration: Folds, weights: Folds | None) -> Folds:
    """Per fold (n_k,) weights whose mean over all rows is 1."""
    if weights is None:
        return [np.ones(fold.shape[-1]) for fold in configuration]
    mean = np.concatenate([_float(w) for w in weights]).mean()
    return [_float(w) / mean for w in weights]


def _beside_most(apart: Values, truth: NDArray) -> Values:
    """(w, S, n) → whether a row's difference is not the median one of its class in the same pair of runs, which is that of
    most rows where few were judged differently. Stored values are float32; a step of a placement is far larger."""
    beside = np.zeros(apart.shape, dtype=bool)
    close = 1e-6 * np.abs(apart).max(initial=0.0)
    for code in np.unique(truth):
        own = np.asarray(truth) == code
        beside[..., own] = np.abs(apart[..., own] - np.median(apart[..., own], axis=-1, keepdims=True)) > close
    return beside
