"""Number columns to a matrix: gaps filled by the median, a flag where they were, everything standardised.

The same as scikit-learn's SimpleImputer and StandardScaler, which the tests compare it with; importing scikit-learn takes as
long as importing torch, and every study would wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)


def encode_numbers(
    block: Matrix, splits: Sequence[NDArray[np.intp]], names: Sequence[str], scale: bool
) -> tuple[list[NDArray[np.float32]], list[str]]:
    """(n, p) with NaN for gaps → float32 of each split's rows, training first, and the names of its columns.

    A gap becomes the median of the training rows, 0 where they have no value at all. Columns with gaps there get another
    column that is 1 where one was. ``scale``: subtract the training mean and divide by the deviation.
    """
    train = block[splits[0]]
    gaps = np.isnan(train)
    flagged = np.flatnonzero(gaps.any(axis=0))
    middle = np.zeros(block.shape[1])
    full = ~gaps.all(axis=0)
    middle[full] = np.nanmedian(train[:, full], axis=0) if len(flagged) else np.median(train, axis=0)[full]
    filled = [_filled(block[rows], middle, flagged) for rows in splits]
    if scale:
        mean, deviation = _moments(filled[0])
        filled = [(part - mean) / deviation for part in filled]
    return [part.astype(np.float32) for part in filled], [
        *names,
        *(f"missingindicator_{names[int(i)]}" for i in flagged),
    ]


def _filled(values: Matrix, middle: Matrix, flagged: NDArray[np.intp]) -> Matrix:
    missing = np.isnan(values)
    return np.concatenate([np.where(missing, middle, values), missing[:, flagged].astype(np.float64)], axis=1)


def _moments(train: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and deviation of each column; 1 for the deviation of what is constant but for rounding."""
    mean, variance = train.mean(axis=0), train.var(axis=0)
    rounding = len(train) * _EPS * variance + (len(train) * mean * _EPS) ** 2
    return mean, np.where(variance <= rounding, 1.0, np.sqrt(variance))
