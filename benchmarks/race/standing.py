"""Arithmetic of the race: regret, comparisons with intervals, and how soon Whichopt reaches the best of its peers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from scipy import stats

from benchmarks.race.scores import MAXIMISED, margin


def sign(metric: str) -> float:
    """1 where higher is better, else −1."""
    return 1.0 if metric in MAXIMISED else -1.0


def regrets(metric: str, means: Mapping[str, float], default: float, best: float) -> dict[str, float]:
    """How far each mean is from ``best``, where 1 is as far as default AdamW is; 0 is best.

    No mean may be better than ``best``. The unit is never smaller than the metric's margin, so that ties stay ties.
    """
    unit = max(abs(default - best), margin(metric, best))
    return {name: abs(best - mean) / unit for name, mean in means.items()}


@dataclass(frozen=True)
class Comparison:
    """``difference``: a − b, positive when a is better, paired by seed, with its 95 % interval."""

    difference: float
    low: float
    high: float
    margin: float

    @property
    def outcome(self) -> str:
        """``win`` or ``loss`` when the interval excludes 0 and the mean exceeds the margin, else ``tie``."""
        if self.low > 0 and self.difference > self.margin:
            return "win"
        return "loss" if self.high < 0 and -self.difference > self.margin else "tie"


def compare(metric: str, a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Student's t over the seeds that both were judged on, the first ones of each. At least two."""
    differences = [sign(metric) * (x - y) for x, y in zip(a, b, strict=False)]
    mean, half = fmean(differences), 0.0
    if len(differences) > 1:
        error = stdev(differences) / math.sqrt(len(differences))
        half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return Comparison(mean, mean - half, mean + half, margin(metric, fmean(b)))


def ranks(regret: Mapping[str, float]) -> dict[str, float]:
    """1 is best; equal regrets share the mean of their ranks."""
    return dict(zip(regret, (float(rank) for rank in stats.rankdata(list(regret.values()))), strict=True))


def speedup(metric: str, ours: Mapping[float, float], goal: float, seconds: float) -> float | None:
    """``seconds`` of the best peer over the least of ours after which the mean is within the margin of ``goal``, or None.

    ``ours``: wall-clock → mean. Only wall-clocks that were raced count, so it is a lower bound.
    """
    slack = margin(metric, goal)
    enough = [clock for clock, mean in ours.items() if sign(metric) * (mean - goal) >= -slack]
    return seconds / min(enough) if enough else None


def middle(values: Sequence[float | None]) -> float | None:
    """The median, where None is less than every number: it is None when that is the median."""
    known = sorted(-math.inf if value is None else value for value in values)
    if not known:
        return None
    found = median(known)
    return None if found == -math.inf or math.isnan(found) else found
