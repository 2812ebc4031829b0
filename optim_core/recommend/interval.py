"""Interval and probability of a difference, and the interval of a single score: one distribution for both.

A difference is judged by Student's t with the variance of ``variance.spread``, but never finer than the rows resolve: where
fewer than ten rows were ever judged differently, the half width is at least −ln(alpha)·unit/N, the rule of three (Hanley &
Lippman-Hand 1983) at alpha .05. Alpha is the caller's: the look's, divided by Holm's rank (``looks.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from optim_core.recommend.row_scores import Folds, RowScores, difference_scores, row_scores, row_unit, unlike
from optim_core.recommend.variance import Spread, spread
from optim_core.spec.problem import BOUNDS, MAXIMISED

Groups = Sequence[NDArray[np.integer]]
FEW_ROWS = 10
# In fewer groups than that rows are many and only loosely alike (pieces of time, hospitals): there the spread of the groups
# says what they resolve, and a row counts as one. In more of them, as copies of rows, all rows of a group differ together.
_MANY_GROUPS = 30
# Seeds from which on a claim may be made: a training that fails now and then does not show in one. On five folds, on one.
CLAIM_SEEDS, CLAIM_SEEDS_ONE_SPLIT = 2, 3
# The training sets of five folds overlap: what a table does to the level of all of them shows in no difference between folds,
# and cancels in differences of configurations only. For a single score so many times the variance of rows. Without it intervals
# covered .85 to .98 (20 cells of the benchmark, two seeds), with half .89 to 1, with one .93 to 1.
_LEVEL_SHARE = 1.0


@dataclass(frozen=True)
class Difference:
    """Rival − base in the metric's unit, positive where the rival is better.

    ``half``: half width before the ends were held within what the metric can reach. ``probability`` that the rival is better;
    it is at least .975 just where the interval lies above 0. ``p_value``: the largest alpha (two-sided) whose interval holds 0.
    ``floor``: the finest half width that these rows resolve, 0 where enough differ; ``unlike``: how many do. ``identical``: all
    stored values agree, bit for bit. ``claimable``: whether enough seeds were seen to claim anything at all; if not, the
    interval lacks what seeds do, and nothing may be concluded from it.
    """

    mean: float
    low: float
    high: float
    half: float
    probability: float
    p_value: float
    floor: float
    unlike: int
    identical: bool
    claimable: bool
    alpha: float
    rival: float
    base: float
    spread: Spread

    @property
    def excludes_zero(self) -> bool:
        """Whether the rival may be called better than the base, margins aside."""
        return self.claimable and self.low > 0


@dataclass(frozen=True)
class ScoreInterval:
    """A configuration's pooled score in its metric's own direction, with its interval and the spread of its row scores."""

    value: float
    low: float
    high: float
    spread: Spread


def difference(
    rival: Folds,
    base: Folds,
    metric: str,
    *,
    alpha: float,
    targets: Folds | None = None,
    weights: Folds | None = None,
    train_rows: int | None = None,
    groups: Groups | None = None,
) -> Difference:
    """Compare two configurations (without NaN: ``row_scores.filled``) by their stored rows at error ``alpha``.

    ``targets``: per fold (n_k,), for metrics of ``NEEDS_TARGETS``; ``weights``: the same, sample weights. ``train_rows``: what
    a run was trained on, for a single split. ``groups``: per fold (n_k,) labels of rows that belong together, which count as
    one.
    """
    scores, of_rival, of_base = difference_scores(rival, base, metric, targets, weights)
    var = spread(scores.rows, metric, train_rows=train_rows, groups=groups)
    rows_unlike = unlike(rival, base, metric, targets)
    identical = all(np.array_equal(x, y) for x, y in zip(rival, base, strict=True))
    mean = 0.0 if identical else scores.value
    alike = _alike(groups)
    step = alike * row_unit(rival, base, metric, targets, weights) / var.rows
    coarse = rows_unlike < FEW_ROWS * alike or var.total == 0
    floor = -math.log(alpha) * step if coarse else 0.0
    half = max(var.half_width(alpha), floor)
    lowest, highest = _reach(metric, _within(of_base, base, metric, alpha, targets, weights, train_rows, groups))
    return Difference(
        mean=mean,
        low=min(mean, max(mean - half, lowest)),
        high=max(mean, min(mean + half, highest)),
        half=half,
        probability=_probability(mean, half, var.df),
        p_value=max(_p_value(mean, var), math.exp(-abs(mean) / step) if coarse and step > 0 else 0.0),
        floor=floor,
        unlike=rows_unlike,
        identical=identical,
        claimable=var.seeds >= (CLAIM_SEEDS if var.folds > 1 else CLAIM_SEEDS_ONE_SPLIT),
        alpha=alpha,
        rival=of_rival.value,
        base=of_base.value,
        spread=var,
    )


def score_interval(
    configuration: Folds,
    metric: str,
    *,
    alpha: float = 0.05,
    targets: Folds | None = None,
    weights: Folds | None = None,
    train_rows: int | None = None,
    groups: Groups | None = None,
) -> ScoreInterval:
    """The interval of one configuration's score at error ``alpha``.

    Scores between 0 and 1 on the scale of their logit, so that the interval stays within; a score of 0 or 1, and one whose
    rows do not vary, reaches −ln(alpha)·unit/N inwards. Other scores plainly, held within the metric's bounds.
    """
    scores = row_scores(configuration, metric, targets, weights)
    return _within(scores, configuration, metric, alpha, targets, weights, train_rows, groups)


def _within(
    scores: RowScores,
    configuration: Folds,
    metric: str,
    alpha: float,
    targets: Folds | None,
    weights: Folds | None,
    train_rows: int | None,
    groups: Groups | None,
) -> ScoreInterval:
    var = spread(scores.rows, metric, train_rows=train_rows, groups=groups)
    if var.folds > 1:
        var = replace(var, row=(1 + _LEVEL_SHARE) * var.row)
    value, half, (lowest, highest) = scores.value, var.half_width(alpha), BOUNDS[metric]
    if math.isinf(lowest) or math.isinf(highest):
        return ScoreInterval(value, max(value - half, lowest), min(value + half, highest), var)
    floor = (
        -math.log(alpha) * _alike(groups) * row_unit(configuration, configuration, metric, targets, weights) / var.rows
    )
    inside = value * (1 - value)
    if inside <= 0 or half == 0:
        return ScoreInterval(value, max(value - floor, lowest), min(value + floor, highest), var)
    odds, reach = math.log(value / (1 - value)), half / inside
    return ScoreInterval(value, min(value, _expit(odds - reach)), max(value, _expit(odds + reach)), var)


def _alike(groups: Groups | None) -> float:
    """Rows of a group that differ together, at most ``FEW_ROWS``; 1 where rows are no groups or groups are few."""
    units = 0 if groups is None else sum(len(np.unique(fold)) for fold in groups)
    return min(sum(map(len, groups or ())) / units, FEW_ROWS) if units >= _MANY_GROUPS else 1.0


def _reach(metric: str, base: ScoreInterval) -> tuple[float, float]:
    """The least and the greatest gain that the metric allows over a base somewhere in its interval.

    Over the base's own value the gain would be at most 0 where it made no error on these rows, whatever they resolve.
    """
    lowest, highest = BOUNDS[metric]
    if metric in MAXIMISED:
        return lowest - base.high, highest - base.low
    return base.low - highest, base.high - lowest


def _probability(mean: float, half: float, df: float) -> float:
    """T_ν(t_{.975, ν}·mean/half): it holds whatever the half width holds, looks, rivals and floor."""
    if half == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return float(stdtr(df, stdtrit(df, 0.975) * mean / half))


def _p_value(mean: float, var: Spread) -> float:
    if var.total == 0:
        return float(mean == 0)
    return float(2 * stdtr(var.df, -abs(mean) / math.sqrt(var.total)))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
