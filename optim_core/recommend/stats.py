"""Intervals and probabilities for small paired samples. Deterministic: the bootstrap's seed is fixed."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
RESAMPLES = 4000
# Below this many pairs the t interval trusts normality too much and the bootstrap too little data: report the wider.
SMALL_N = 10


def mean_interval(values: Values, alpha: float) -> tuple[float, float]:
    """Interval of the mean with coverage 1 − alpha: Student's t; with n < 10 widened to hold the BCa bootstrap's too.

    BCa: Efron 1987. With one value, or none that differ, the interval is the point itself.
    """
    n, mean = len(values), float(values.mean())
    if n < 2 or np.ptp(values) == 0:
        return mean, mean
    half = float(stats.t.ppf(1 - alpha / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    low, high = mean - half, mean + half
    if n < SMALL_N:
        b_low, b_high = _bca(values, alpha)
        low, high = min(low, b_low), max(high, b_high)
    return low, high


def _bca(values: Values, alpha: float) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # degenerate resamples: answered with NaN, which the caller's min/max drops
        found = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=1 - alpha,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    mean = float(values.mean())
    return (
        float(found.low) if math.isfinite(found.low) else mean,
        float(found.high) if math.isfinite(found.high) else mean,
    )


def probability_better(gains: Values) -> float:
    """Share of paired bootstrap resamples whose mean gain is positive, ties counted half."""
    if np.ptp(gains) == 0:
        return 0.5 if gains[0] == 0 else float(gains[0] > 0)
    rng = np.random.default_rng(0)
    means = gains[rng.integers(0, len(gains), (RESAMPLES, len(gains)))].mean(1)
    return float((means > 0).mean() + 0.5 * (means == 0).mean())


def further_seeds(gains: Values, margin: float, alpha: float) -> int:
    """Seeds still needed until the interval would decide, if mean and spread stay as they are; at most 1000."""
    mean, spread = float(gains.mean()), float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    # Decided when the half width is below the distance to 0 (better) or to the margin (no difference).
    distance = max(abs(mean) if abs(mean) > margin else 0.0, margin - abs(mean), 1e-12)
    needed = (
        math.ceil((float(stats.norm.ppf(1 - alpha / 2)) * spread / distance) ** 2) if spread > 0 else len(gains) + 1
    )
    return int(min(max(1, needed - len(gains)), 1000))


def expected_best(values: Values, n: int) -> float:
    """Expected best (largest) of ``n`` draws without replacement from the sample (Tang et al. 2020, arXiv 2004.13705)."""
    ordered = np.sort(values)
    total = len(ordered)
    weights = [math.comb(i, n - 1) / math.comb(total, n) if i >= n - 1 else 0.0 for i in range(total)]
    return float(np.dot(weights, ordered))


def best_band(values: Values, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Distribution-free band for the expected best of ``n`` (Dvoretzky–Kiefer–Wolfowitz; Lourie et al. 2023).

    The best and worst value seen stand in for the unknown ends of the distribution.
    """
    ordered = np.sort(values)
    total = len(ordered)
    epsilon = math.sqrt(math.log(2 / alpha) / (2 * total))
    cdf = np.arange(1, total + 1) / total
    bounds = []
    for shift in (epsilon, -epsilon):
        shifted = np.clip(cdf + shift, 0.0, 1.0)
        shifted[-1] = 1.0
        mass = np.diff(np.concatenate([[0.0], shifted**n]))
        bounds.append(float(np.dot(mass, ordered)))
    return bounds[0], bounds[1]
