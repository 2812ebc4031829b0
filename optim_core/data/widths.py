"""What each column becomes for a model, known without making it: how many numbers a row has, and how many codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optim_core.data.columns import Column
from optim_core.data.limits import MAX_LEVELS
from optim_core.data.target_codes import means_of


def gaps_of(column: Column, rows: np.ndarray | None = None) -> int:
    """Of ``rows`` (all without) those in which a value is missing."""
    if column.numbers is not None:
        values = column.numbers if rows is None else column.numbers[rows]
        return int(np.isnan(values).any(axis=1).sum())
    assert column.levels is not None
    return int((column.levels.gaps if rows is None else column.levels.gaps[rows]).sum())


def levels_of(column: Column, train: np.ndarray) -> tuple[int, bool]:
    """How many categories of the training rows have a place of their own, a missing value being one of them; and whether others
    share one (``levels.Levels``).
    """
    assert column.levels is not None
    found = int(np.count_nonzero(np.bincount(column.levels.filled().codes[train])))
    return (found, False) if found <= MAX_LEVELS + 1 else (MAX_LEVELS, True)


def width_of(column: Column, train: np.ndarray, codes: bool, classes: int | None) -> int:
    """Numbers a row: of number columns with a flag for each that has gaps in the training rows; of categories one for each
    place, or with ``codes`` their code, and where there are many the means of the target, of ``classes`` if any.
    """
    if column.numbers is not None:
        return column.numbers.shape[1] + int(np.isnan(column.numbers[train]).any(axis=0).sum())
    kept, rare = levels_of(column, train)
    return (1 if codes else kept + rare) + (means_of(classes) if rare else 0)


def encoded_shape(
    columns: Sequence[Column], train: np.ndarray, codes: bool, classes: int | None
) -> tuple[int, tuple[int, ...]]:
    """(width, cardinalities) of what ``encode.encode_columns`` makes. ``classes``: of the target, None for numbers."""
    width = sum(width_of(column, train, codes, classes) for column in columns)
    if not codes:
        return width, ()
    return width, tuple(levels_of(column, train)[0] + 1 for column in columns if column.levels is not None)
