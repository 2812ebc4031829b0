"""What a smaller search would have found: the expected best of n trials, with a distribution-free band."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def expected_best(values: Values, n: int) -> float:
    """Expected best (largest) of ``n`` draws without replacement from the sample (Tang et al. 2020, arXiv 2004.13705)."""
    ordered = np.sort(values)
    total = len(ordered)
    # The i-th smallest (from 0) is the best of comb(i, n - 1) of all comb(total, n) draws. Each of these shares follows from
    # the one above it; the numbers themselves have thousands of digits.
    above = np.arange(total - 1, n - 1, -1)
    shares = n / total * np.cumprod(np.concatenate([[1.0], (above - n + 1) / above]))
    return float(np.dot(shares[::-1], ordered[n - 1 :]))


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
