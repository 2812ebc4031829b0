"""Train, validation and test rows, drawn once from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec

_POINTER = "/training/validation_fraction"


@dataclass(frozen=True)
class Rows:
    """Row numbers of each split: ascending, disjoint, together all rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split_rows(spec: StudySpec, y: np.ndarray, classes: list[str] | None) -> Rows:
    """Split by ``spec.training`` fractions; within each class when ``classes`` is given.

    Every class appears in every split. Raises DataError ``split_too_small``, and ``batch_too_large`` when a batch
    would need more rows than training has.
    """
    rng = np.random.default_rng(derive_seed(spec.seed, "split"))
    groups = [np.arange(len(y))] if classes is None else [np.flatnonzero(y == code) for code in range(len(classes))]
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for code, rows in enumerate(groups):
        if len(rows) < 3 and classes is not None:
            count = plural(len(rows), "row")
            message = f"class {show(classes[code])} has {count}; training, validation and test need one each"
            raise DataError(message, code="split_too_small", pointer="/dataset/target")
        for part, chosen in zip(parts, _cut(rng.permutation(rows), spec), strict=True):
            part.append(chosen)
    result = Rows(*(np.sort(np.concatenate(part)) for part in parts))
    _check(result, spec)
    return result


def _cut(rows: np.ndarray, spec: StudySpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(train, validation, test) of one group; each gets at least one row."""
    training = spec.training
    test = max(1, round(len(rows) * training.test_fraction))
    validation = max(1, round(len(rows) * training.validation_fraction))
    while test + validation >= len(rows):
        test, validation = (test - 1, validation) if test >= validation else (test, validation - 1)
    return rows[test + validation :], rows[test : test + validation], rows[:test]


def _check(rows: Rows, spec: StudySpec) -> None:
    for name, count in rows.counts.items():
        if count < 2:
            message = f"the {name} split would have {plural(count, 'row')}; at least 2 are needed"
            raise DataError(message, code="split_too_small", pointer=_POINTER)
    batch, available = spec.training.batch_size, len(rows.train)
    if batch > available:
        message = f"batch_size {batch:,} is larger than the {available:,} training rows"
        raise DataError(message, code="batch_too_large", pointer="/training/batch_size")
