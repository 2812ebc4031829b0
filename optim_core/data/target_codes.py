"""Categories of which there are too many for a column each: the mean of the target in each, as numbers.

A row's own target must not be in its own feature: training rows are cut into folds, each encoded by scikit-learn's
TargetEncoder fitted on the others, which draws means of rare categories towards the mean of all by empirical Bayes
(Micci-Barreca 2001). Validation and test rows are encoded by all training rows. Copies of a row lie in one fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optim_core.data.dealing import Units, deal

# Each class is a column more for each category column.
MOST_CLASSES = 10
_FOLDS = 5


def means_of(classes: int | None) -> int:
    """Numbers that each column becomes; 0 where there are too many classes for that."""
    if classes is not None and classes > MOST_CLASSES:
        return 0
    return 1 if classes is None or classes == 2 else classes


def means(
    columns: Sequence[Sequence[NDArray[np.int32]]],
    names: Sequence[str],
    y: np.ndarray,
    classes: int | None,
    groups: np.ndarray | None,
    seed: int,
) -> tuple[list[NDArray[np.float32]], list[str]]:
    """Per column the codes of each split, training first → (n, width) float32 of each split, standardised by the training
    rows, and the new columns' names.

    ``y``: (n_train,) class codes or numbers; ``classes``: how many, None for numbers; of two one column tells all, of more each
    has one. ``groups``: (n_train,) labels of rows that are alike, None for none. ``seed``: draws the folds.
    """
    tables = [np.stack([splits[i] for splits in columns], axis=1) for i in range(len(columns[0]))]
    goals = [y] if classes is None else [y == kind for kind in ([1] if classes == 2 else range(classes))]
    apart = np.arange(len(y)) if groups is None or len(np.unique(groups)) < _FOLDS else groups
    units = Units.make(apart, np.zeros(len(y), dtype=np.int64))
    fold_of = deal(units, _FOLDS, np.random.default_rng(seed))
    parts: list[list[np.ndarray]] = [[] for _ in tables]
    for goal in (each.astype(np.float64) for each in goals):
        train = np.empty(tables[0].shape)
        for fold in np.unique(fold_of):
            own = fold_of == fold
            (train[own],) = _encoded(tables[0][~own], goal[~own], [tables[0][own]])
        others = _encoded(tables[0], goal, tables[1:])
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        deviation[deviation < 1e-12] = 1.0
        for part, values in zip(parts, [train, *others], strict=True):
            part.append((values - mean) / deviation)
    ends = ["_target"] if len(goals) == 1 else [f"_target_{kind}" for kind in range(len(goals))]
    return [np.concatenate(part, axis=1).astype(np.float32) for part in parts], [n + end for end in ends for n in names]


def _encoded(train: np.ndarray, goal: np.ndarray, others: Sequence[np.ndarray]) -> list[np.ndarray]:
    # scikit-learn takes as long to import as torch, and few tables have such columns.
    from sklearn.preprocessing import TargetEncoder

    encoder = TargetEncoder(target_type="continuous", smooth="auto").fit(train, goal)
    return [np.asarray(encoder.transform(table), dtype=np.float64) for table in others]
