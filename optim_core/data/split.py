"""Train, validation and test rows, drawn once from a seed: five folds that take turns, or one split of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import FOLDS, StudySpec

_POINTER, _TARGET = "/training/validation_fraction", "/dataset/target"
# Rows left over go to folds from here on, which are training rows for the search.
_FIRST = 2


@dataclass(frozen=True)
class SplitRows:
    """Row numbers of each split: ascending, disjoint, together all rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split_rows(spec: StudySpec, y: np.ndarray, classes: list[str] | None) -> list[SplitRows]:
    """Every split that a study may train on: of each of the five folds in turn, or the only one.

    Within each class when ``classes`` is given, ``y`` being (n,) class codes; every class is in every training split. Split
    k of the five: test = fold k, validation = fold k+1, train = the other three. The first is the one that the search sees.
    Raises DataError ``split_too_small``, and ``batch_too_large`` when a batch would need more rows than training has.
    """
    rng = np.random.default_rng(derive_seed(spec.seed, "split"))
    groups = [np.arange(len(y))] if classes is None else [np.flatnonzero(y == code) for code in range(len(classes))]
    for code, rows in enumerate(groups):
        if len(rows) < 3 and classes is not None:
            count = plural(len(rows), "row")
            message = f"class {show(classes[code])} has {count}; training, validation and test need one each"
            raise DataError(message, code="split_too_small", pointer=_TARGET)
    shuffled = [rng.permutation(rows) for rows in groups]
    splits = _in_folds(shuffled, len(y)) if spec.training.in_folds else [_single(shuffled, spec)]
    for rows in splits:
        _check(rows, spec)
    if spec.metric == "auroc" and any(len(np.unique(y[rows.test])) < 2 for rows in splits):
        message = f"auroc needs rows of two classes in each fold; the smallest class has {min(map(len, groups))} rows"
        raise DataError(message, code="split_too_small", pointer=_TARGET)
    return splits


def _in_folds(groups: list[np.ndarray], total: int) -> list[SplitRows]:
    """Rows are dealt group by group, one to each fold in turn: folds differ by one row at most, as do a class's shares.

    Three rows of a class lie in three folds, of which a training split leaves out two: it holds every class.
    """
    fold_of = np.empty(total, dtype=np.int64)
    fold_of[np.concatenate(groups)] = (np.arange(total) + _FIRST) % FOLDS
    return [
        SplitRows(*(np.flatnonzero(chosen) for chosen in (place >= 2, place == 1, place == 0)))
        for place in ((fold_of - fold) % FOLDS for fold in range(FOLDS))
    ]


def _single(groups: list[np.ndarray], spec: StudySpec) -> SplitRows:
    parts = zip(*(_cut(rows, spec) for rows in groups), strict=True)
    return SplitRows(*(np.sort(np.concatenate(part)) for part in parts))


def _cut(rows: np.ndarray, spec: StudySpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(train, validation, test) of one group; each gets at least one row."""
    training = spec.training
    test = max(1, round(len(rows) * training.test_fraction))
    validation = max(1, round(len(rows) * training.validation_fraction))
    while test + validation >= len(rows):
        test, validation = (test - 1, validation) if test >= validation else (test, validation - 1)
    return rows[test + validation :], rows[test : test + validation], rows[:test]


def _check(rows: SplitRows, spec: StudySpec) -> None:
    for name, count in rows.counts.items():
        if count < 2:
            message = f"the {name} split would have {plural(count, 'row')}; at least 2 are needed"
            raise DataError(message, code="split_too_small", pointer=_POINTER)
    batch, available = spec.training.batch_size, len(rows.train)
    if batch > available:
        message = f"batch_size {batch:,} is larger than the {available:,} training rows"
        raise DataError(message, code="batch_too_large", pointer="/training/batch_size")
