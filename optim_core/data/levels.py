"""Category columns to numbers: a column of 0 and 1 for each level, or one column of codes.

Levels are learned from the training rows, sorted. Beyond the most common ones they are rare and share a place, in the manner of
scikit-learn's OneHotEncoder with ``max_categories``, which the tests compare this with (see ``numeric`` for why not itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.data.limits import MAX_LEVELS

RARE = "(rare)"


def has_many(train: NDArray[np.object_]) -> bool:
    """Whether (n,) strings have more levels than get a place of their own."""
    return len(set(train.tolist())) > MAX_LEVELS + 1


@dataclass(frozen=True)
class Levels:
    """``kept``: sorted; ``rare``: whether training has others."""

    kept: list[str]
    rare: bool

    @classmethod
    def learn(cls, train: NDArray[np.object_]) -> Levels:
        """Of (n,) strings: all levels, or the ``MAX_LEVELS`` most common; of equally common ones those that sort last."""
        found, counts = np.unique(train, return_counts=True)
        if len(found) <= MAX_LEVELS + 1:
            return cls([str(level) for level in found], rare=False)
        common = np.sort(np.argsort(counts, kind="stable")[len(found) - MAX_LEVELS :])
        return cls([str(level) for level in found[common]], rare=True)

    def places(self, values: NDArray[np.object_]) -> NDArray[np.intp]:
        """(n,) strings → place in ``kept``; len(kept) for rare and unseen ones."""
        place = {level: i for i, level in enumerate(self.kept)}
        return np.array([place.get(value, len(place)) for value in values], dtype=np.intp)


def one_hot(
    columns: Sequence[Sequence[NDArray[np.object_]]], names: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Per column the strings of each split, training first → (n, width) float32 of each split, and the new columns' names.

    What training never saw counts as rare where there are rare ones, and is all zeros elsewhere.
    """
    parts: list[list[np.ndarray]] = [[] for _ in columns[0]]
    named: list[str] = []
    for splits, name in zip(columns, names, strict=True):
        levels = Levels.learn(splits[0])
        width = len(levels.kept) + levels.rare
        named += [f"{name}_{level}" for level in [*levels.kept, RARE][:width]]
        # A row of zeros more, for what has no place.
        rows = np.eye(width + 1, width, dtype=np.float32)
        for part, values in zip(parts, splits, strict=True):
            part.append(rows[levels.places(values)])
    return [np.concatenate(part, axis=1) for part in parts], named


def codes(columns: Sequence[Sequence[NDArray[np.object_]]]) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Per column the strings of each split, training first → (n, columns) float32 codes, and how many each column has.

    A column's first code is for rare and unseen levels. Codes count on from column to column.
    """
    parts: list[list[np.ndarray]] = [[] for _ in columns[0]]
    counts: list[int] = []
    for splits in columns:
        levels, first = Levels.learn(splits[0]), sum(counts)
        counts.append(len(levels.kept) + 1)
        for part, values in zip(parts, splits, strict=True):
            part.append(first + (levels.places(values) + 1) % counts[-1])
    return [np.stack(part, axis=1).astype(np.float32) for part in parts], tuple(counts)
