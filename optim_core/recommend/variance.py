"""Variance of a mean of row scores over new rows, new training sets and new seeds, by components.

Three things vary: rows (which rows the source happened to give for testing), seeds (the same training set trained again) and
folds (another training set). Rows are crossed with runs, so the runs' noise on single rows is in the first two and is not
counted twice. Tested by ``make bench-evidence``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # not scipy.stats, whose import takes a second

from optim_core.recommend.row_scores import Folds, Values

# On one split no other training set is seen. Its share of the variance of rows, times test rows over training rows.
_TRAINING_SHARE = 0.5
_TIME_BLOCKS = 10


@dataclass(frozen=True)
class Spread:
    """Variance of a mean by components, each with its degrees of freedom, in squares of the scores' unit.

    ``noise``: the variance of one run's score of one row around what is common to the row and to the run (MS_e).
    ``weights``: rows N, folds K, seeds S, scores of a row per seed w.
    """

    row: float
    seed: float
    fold: float
    row_df: float
    noise: float
    rows: int
    folds: int
    seeds: int
    wide: int

    @property
    def total(self) -> float:
        """Variance of the mean."""
        return self.row + self.seed + self.fold

    @property
    def df(self) -> float:
        """Degrees of freedom of ``total`` (Satterthwaite 1946), at least 1.

        On one split those of seeds are few, so they weigh by their whole mean square, before noise is taken off it: where
        that leaves nothing for seeds, it may be by chance.
        """
        seed = self.seed + self.noise / (self.rows * self.seeds * self.wide) * (self.folds == 1)
        parts = [
            (self.row, self.row_df),
            (seed, self.folds * (self.seeds - 1)),
            (self.fold, 2 * self.folds / 3 if self.wide == 2 else self.folds - 1),
        ]
        largest = max(part for part, _ in parts)
        if self.total <= 0:
            return max(1.0, self.row_df)
        scaled = sum((part / largest) ** 2 / df for part, df in parts if part > 0)
        return max(1.0, (self.total / largest) ** 2 / scaled)

    def half_width(self, alpha: float) -> float:
        """Half of the interval with coverage 1 − alpha, by Student's t."""
        return float(stdtrit(self.df, 1 - alpha / 2)) * math.sqrt(self.total)


def spread(
    rows: Folds, metric: str, *, train_rows: int | None = None, groups: Sequence[NDArray[np.integer]] | None = None
) -> Spread:
    """Components of the variance of the mean of row scores, per fold (w, S, n_k).

    - row: [Σe² + g·max e²] / (N − K) / N, e the row's mean score minus its fold's; g = 0 for accuracy, else 1 (a heavy tail is
      better seen too large than missed); on one split times 1 + ½·n_test/n_train. df = 2N/(kurtosis − 1), 2 to N − 1.
    - seed: max(0, mean over training sets of the variance of their seeds' runs − MS_e/(w·n)) / (K·S), a run's mean taken over
      all rows that it was scored on; df = K(S − 1); 0 with one seed.
    - fold, w = 2: every fold was scored by two training sets, k and k − 1. The mean square of their difference, less what rows
      explain of it, is twice the variance of a training set with its S seeds: max(0, that/(2K) − seed); df = 2K/3, those of
      squared differences of neighbours on a ring. What the rows have in common cancels. w = 1: max(0, variance of the folds'
      means / K − row − seed); df = K − 1; 0 with one fold.

    With w = 2, taking seeds' and folds' variance from the folds' means instead counts half of each run's own part: where runs
    differ by more than rows explain (smooth regression, 500 rows, four seeds) such intervals covered .86 to .89.

    ``train_rows``: rows that the runs were trained on, needed with one fold. ``groups``: per fold (n_k,) the number of each
    row's group, where rows come in groups; they then count as one row each (sums of e within them).
    """
    folds, (wide, seeds, _) = len(rows), rows[0].shape
    total = sum(fold.shape[-1] for fold in rows)
    if folds == 1 and train_rows is None:
        raise ValueError("the variance on one split needs train_rows")
    scale = max(float(np.abs(fold).max(initial=0.0)) for fold in rows) or 1.0
    scaled = [np.asarray(fold, dtype=np.float64) / scale for fold in rows]
    labels = [None] * folds if groups is None else list(groups)

    e = np.concatenate(
        [_in_groups(_centred(fold.mean(axis=(0, 1))), g) for fold, g in zip(scaled, labels, strict=True)]
    )
    units = len(e)
    squares = e**2
    row = float(squares.sum() + (metric != "accuracy") * squares.max()) * units / max(1, units - folds) / total**2
    if folds == 1:
        row *= 1 + _TRAINING_SHARE * total / max(1, train_rows or 0)

    noise = _noise(scaled, labels) if seeds > 1 else 0.0
    seed = 0.0
    if seeds > 1:
        means = _run_means(scaled)
        seed = max(0.0, float(means.var(axis=1, ddof=1).mean()) - noise * folds / (wide * total)) / (folds * seeds)
    fold = 0.0
    if folds > 1 and wide == 2:
        fold = max(0.0, _between_pairs(scaled, labels) / (2 * folds) - seed)
    elif folds > 1:
        fold = max(0.0, float(np.var([f.mean() for f in scaled], ddof=1)) / folds - row - seed)
    square = scale**2
    return Spread(
        row * square, seed * square, fold * square, _row_df(squares), noise * square, total, folds, seeds, wide
    )


def time_blocks(rows: int) -> NDArray[np.integer]:
    """(rows,) groups for rows in the order of time: ten blocks of neighbours.

    With scores whose correlation halves every seven rows (ρ = .9), 95 % intervals of 400 rows covered .40 by rows, .92 with
    twenty blocks, .96 with ten, which are a fifth to a quarter wider than by rows where nothing is correlated.
    """
    return np.arange(rows) * _TIME_BLOCKS // max(1, rows)


def _centred(values: Values) -> Values:
    """Minus the mean; exactly 0 where all are equal, though their mean may be rounded."""
    return values - values.mean() if np.ptp(values) > 0 else np.zeros_like(values)


def _in_groups(values: Values, groups: NDArray[np.integer] | None) -> Values:
    """Sums (…, groups) over the last axis (…, n)."""
    if groups is None:
        return values
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(np.asarray(groups)[order]) != 0])
    return np.add.reduceat(values[..., order], starts, axis=-1)


def _run_means(rows: Folds) -> Values:
    """(K, S): each run's mean over the fold that it was tested on and, with w = 2, the next, its validation rows."""
    sums = np.stack([fold[0].sum(axis=-1) for fold in rows])
    sizes = np.array([float(fold.shape[-1]) for fold in rows])
    if len(rows[0]) == 2:
        sums = sums + np.roll(np.stack([fold[1].sum(axis=-1) for fold in rows]), -1, axis=0)
        sizes = sizes + np.roll(sizes, -1)
    return sums / sizes[:, None]


def _between_pairs(rows: Folds, labels: Sequence[NDArray[np.integer] | None]) -> float:
    """Mean over folds of (difference of the two training sets that scored it)² − the variance of that mean over rows."""
    found = []
    for fold, groups in zip(rows, labels, strict=True):
        apart = fold[0].mean(axis=0) - fold[1].mean(axis=0)
        sums = _in_groups(_centred(apart), groups)
        found.append(apart.mean() ** 2 - float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1) / len(apart) ** 2)
    return float(np.mean(found))


def _row_df(squares: Values) -> float:
    """2N/(kurtosis − 1): the degrees of freedom of a variance of N draws with that kurtosis (O'Neill 2014)."""
    n, m2 = len(squares), float(squares.mean())
    most = max(2.0, n - 1.0)
    if m2 == 0:
        return most
    kurtosis = float(((squares / m2) ** 2).mean())
    return float(np.clip(2 * n / (kurtosis - 1), 2, most)) if kurtosis > 1 else most


def _noise(rows: Folds, labels: Sequence[NDArray[np.integer] | None]) -> float:
    """MS_e, the mean square of what is left of (w, S, n_k) scores after the row's mean over seeds and the run's over rows.

    Within w: the two runs that score a row were trained on different rows, which is no noise of seeds.
    """
    square, degrees = 0.0, 0.0
    for fold, groups in zip(rows, labels, strict=True):
        wide, seeds, n = fold.shape
        left = fold - fold.mean(axis=1, keepdims=True)
        left = left - left.mean(axis=2, keepdims=True)
        sums = _in_groups(left, groups)
        units = sums.shape[-1]
        # Per row, whatever the size of the groups, so that MS_e / n is the variance of a run's mean.
        square += float((sums**2).sum()) * units / max(1, units - 1)
        degrees += wide * (seeds - 1) * n
    return square / degrees
