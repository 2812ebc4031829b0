"""Train, validation and test rows, drawn once from a seed: folds that take turns, or one split of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optim_core.data.dealing import Units, deal, portions
from optim_core.data.text import plural
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.metrics import RANKED
from optim_core.spec.problem import FOLDS, StudySpec

# One fold each to train on, to validate on and to test on.
FEWEST_FOLDS = 3
FEWEST_ROWS = 2


@dataclass(frozen=True)
class SplitRows:
    """Row numbers of each split: ascending, disjoint, together all rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split_rows(
    spec: StudySpec, y: np.ndarray, classes: list[str] | None, groups: np.ndarray | None = None
) -> list[SplitRows]:
    """The splits of ``len(y)`` rows, drawn from ``spec.seed``: split k tests on fold k and validates on fold k + 1; or one.

    Args: y: class codes, or values where ``classes`` is None; classes: their names, each with three rows or more, so that each
    is among the training rows of every split; groups: (n,) labels of rows that stay together, None for none.

    Five folds; four or three where there are fewer groups, or where some fold would hold one class and the metric needs two.
    Raises DataError ``split_too_small``.
    """
    codes = np.zeros(len(y), dtype=np.int64) if classes is None else y.astype(np.int64)
    units = None if groups is None else Units.make(groups, codes)
    if units is not None and len(units.sizes) < FEWEST_FOLDS:
        message = f"the rows are of {plural(len(units.sizes), 'group')}; training, validation and test need one each"
        raise DataError(message, code="split_too_small", pointer="/split")
    splits, undefined = list[SplitRows](), None
    for folds in range(FOLDS, FEWEST_FOLDS - 1, -1):
        if units is not None and len(units.sizes) < folds:
            continue
        # Anew for each try: the same folds as if it were the first.
        rng = np.random.default_rng(derive_seed(spec.seed, "split"))
        splits = _turns(codes, units, folds, rng) if spec.in_folds else [_single(codes, units, spec, rng)]
        undefined = of_one_class(spec.metric, codes, splits)
        if undefined is None:
            break
    if undefined is not None:
        raise undefined
    for rows in splits:
        check_rows(rows)
    return splits


def of_one_class(metric: str | None, y: np.ndarray, splits: Sequence[SplitRows]) -> DataError | None:
    """What to say where a metric of ranks meets test rows of one class alone: it is undefined there. ``y``: class codes."""
    if metric not in RANKED or all(len(np.unique(y[rows.test])) > 1 for rows in splits):
        return None
    fewest = plural(int(np.bincount(y).min()), "row")
    message = f"{metric} needs rows of two classes in each fold; the smallest class has {fewest}"
    return DataError(message, code="split_too_small", pointer="/dataset/target")


def check_rows(rows: SplitRows) -> None:
    """Raises DataError ``split_too_small`` where a part has fewer than two rows."""
    for name, count in rows.counts.items():
        if count < FEWEST_ROWS:
            message = f"the {name} split would have {plural(count, 'row')}; at least {FEWEST_ROWS} are needed"
            raise DataError(message, code="split_too_small", pointer="/training/validation_fraction")


def asked_batch(spec: StudySpec) -> int:
    """Rows of an optimizer step, where the training rows are as many."""
    return spec.training.batch_size * spec.training.grad_accumulation


def of_parts(part_of: np.ndarray) -> SplitRows:
    """From (n,) 0 for training, 1 for validation, 2 for test."""
    return SplitRows(*(np.flatnonzero(part_of == part) for part in range(3)))


def _turns(codes: np.ndarray, units: Units | None, folds: int, rng: np.random.Generator) -> list[SplitRows]:
    """Without groups rows are dealt class by class, one to each fold in turn: folds differ by one row at most, as do a class's
    shares. Three rows of a class lie in three folds, of which a training split leaves out two: it holds every class.
    """
    if units is None:
        shuffled = np.concatenate([rng.permutation(rows) for rows in _by_class(codes)])
        fold_of = np.empty(len(codes), dtype=np.int64)
        # Rows left over go to folds from there on, which are training rows for the search.
        fold_of[shuffled] = (np.arange(len(codes)) + 2) % folds
    else:
        fold_of = deal(units, folds, rng)
    places = ((fold_of - fold) % folds for fold in range(folds))
    return [of_parts(np.select([place == 0, place == 1], [2, 1], 0)) for place in places]


def _single(codes: np.ndarray, units: Units | None, spec: StudySpec, rng: np.random.Generator) -> SplitRows:
    fractions = (spec.training.validation_fraction, spec.training.test_fraction)
    if units is not None:
        return of_parts(portions(units, fractions, rng))
    strata = _by_class(codes)
    least = FEWEST_ROWS if len(strata) == 1 else 1
    parts = zip(*(_cut(rng.permutation(rows), *fractions, least) for rows in strata), strict=True)
    return SplitRows(*(np.sort(np.concatenate(part)) for part in parts))


def _by_class(codes: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(codes == code) for code in range(int(codes.max(initial=0)) + 1)]


def _cut(
    rows: np.ndarray, for_validation: float, for_test: float, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(train, validation, test) of one class; each gets ``least`` rows or more where there are enough."""
    test = max(least, round(len(rows) * for_test))
    validation = max(least, round(len(rows) * for_validation))
    while test + validation > len(rows) - least and max(test, validation) > 1:
        test, validation = (test - 1, validation) if test >= validation else (test, validation - 1)
    return rows[test + validation :], rows[test : test + validation], rows[:test]
