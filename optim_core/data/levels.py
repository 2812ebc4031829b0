"""Category columns to numbers: a column of 0 and 1 for each level, or one column of codes.

Levels are learned from the training rows, sorted. Beyond the most common ones they are rare and share a place, in the manner of
scikit-learn's OneHotEncoder with ``max_categories``, which the tests compare this with (see ``numeric`` for why not itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.data.categories import Categories
from optim_core.data.limits import MAX_LEVELS

RARE = "(rare)"


@dataclass(frozen=True)
class Levels:
    """``kept``: sorted; ``rare``: whether training has others. ``places``: of each name of the column its place in ``kept``,
    len(kept) for rare and unseen ones.
    """

    kept: list[str]
    rare: bool
    places: NDArray[np.intp]

    @classmethod
    def learn(cls, column: Categories, train: NDArray[np.intp]) -> Levels:
        """Of a column without gaps: all levels, or the ``MAX_LEVELS`` most common; of equally common ones those that sort
        last.
        """
        counts = np.bincount(column.codes[train], minlength=len(column.names))
        found = np.array(sorted(np.flatnonzero(counts), key=column.names.__getitem__), dtype=np.intp)
        rare = len(found) > MAX_LEVELS + 1
        if rare:
            found = found[np.sort(np.argsort(counts[found], kind="stable")[len(found) - MAX_LEVELS :])]
        places = np.full(len(column.names), len(found), dtype=np.intp)
        places[found] = np.arange(len(found))
        return cls([column.names[code] for code in found], rare, places)


def one_hot(
    columns: Sequence[Categories], splits: Sequence[NDArray[np.intp]], names: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Columns without gaps, and the rows of each split, training first → (rows, width) float32 of each split, and the new
    columns' names.

    What training never saw counts as rare where there are rare ones, and is all zeros elsewhere.
    """
    parts: list[list[np.ndarray]] = [[] for _ in splits]
    named: list[str] = []
    for column, name in zip(columns, names, strict=True):
        levels = Levels.learn(column, splits[0])
        width = len(levels.kept) + levels.rare
        named += [f"{name}_{level}" for level in [*levels.kept, RARE][:width]]
        # A row of zeros more, for what has no place.
        rows = np.eye(width + 1, width, dtype=np.float32)[levels.places]
        for part, chosen in zip(parts, splits, strict=True):
            part.append(rows[column.codes[chosen]])
    return [np.concatenate(part, axis=1) for part in parts], named


def codes(
    columns: Sequence[Categories], splits: Sequence[NDArray[np.intp]]
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Columns without gaps → (rows, columns) float32 codes of each split, and how many each column has.

    A column's first code is for rare and unseen levels. Codes count on from column to column.
    """
    parts: list[list[np.ndarray]] = [[] for _ in splits]
    counts: list[int] = []
    for column in columns:
        levels, first = Levels.learn(column, splits[0]), sum(counts)
        counts.append(len(levels.kept) + 1)
        own = (first + (levels.places + 1) % counts[-1]).astype(np.float32)
        for part, chosen in zip(parts, splits, strict=True):
            part.append(own[column.codes[chosen]])
    return [np.stack(part, axis=1) for part in parts], tuple(counts)
