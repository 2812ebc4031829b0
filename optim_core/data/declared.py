"""One split as the person declares it: by time, by a column that names the part, or by files."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optim_core.data.columns import Column, LeftOut
from optim_core.data.dealing import Units, portions
from optim_core.data.split import SplitRows, check_rows, of_parts
from optim_core.data.text import plural, show, show_some
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec

_POINTER = "/split/column"
PART_NAMES = {
    "train": 0, "training": 0, "learn": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "eval": 1, "test": 2,
    "testing": 2, "holdout": 2,
}  # fmt: skip
# Of the test rows: neighbours in time are alike, so that many pieces count as one row each. See ``recommend.variance``.
_BLOCKS = 10


def named_parts(values: pd.Series) -> np.ndarray:
    """(n,) 0 for training, 1 for validation, 2 for test, from their names in a column. Raises DataError ``split_unknown``."""
    words = values.astype("str").str.strip().str.lower()
    parts = words.map(PART_NAMES)
    if parts.isna().any():
        row = int(np.flatnonzero(parts.isna())[0])
        message = f"{show(values.name)} is {show(values.iloc[row])} in data row {row + 1}; train, validation or test is needed"
        raise DataError(message, code="split_unknown", pointer=_POINTER)
    found = parts.to_numpy(np.int64)
    for part, name in ((0, "train"), (2, "test")):
        if not (found == part).any():
            message = f"no row of {show(values.name)} says {name}; it says {show_some(pd.unique(words))}"
            raise DataError(message, code="split_unknown", pointer=_POINTER)
    return found


def with_validation(
    parts: np.ndarray, y: np.ndarray, classes: list[str] | None, groups: np.ndarray | None, spec: StudySpec
) -> SplitRows:
    """The rows of parts as ``named_parts`` gives them. Where none are for validation their share of the training rows is cut at
    random: of classes from each its share, rows of one group (see ``split.split_rows``) together.
    """
    if not (parts == 1).any():
        train = np.flatnonzero(parts == 0)
        codes = np.zeros(len(train), dtype=np.int64) if classes is None else y[train].astype(np.int64)
        units = Units.make(train if groups is None else groups[train], codes)
        rng = np.random.default_rng(derive_seed(spec.seed, "split", "validation"))
        parts = parts.copy()
        parts[train] = portions(units, (spec.training.validation_fraction, 0.0), rng)
    rows = of_parts(parts)
    check_rows(rows)
    return rows


def moments(found: Column | LeftOut) -> np.ndarray:
    """(n,) what orders the rows of a column that was understood: days or numbers, NaN for gaps. Raises DataError."""
    if isinstance(found, LeftOut) or found.numbers is None or found.role not in ("date", "number"):
        why = found.reason if isinstance(found, LeftOut) else "its values are neither dates nor numbers"
        message = f"{show(found.name)} cannot order the rows: {why}"
        raise DataError(message, code="split_unordered", pointer=_POINTER)
    return found.numbers[:, 0]


def by_time(when: np.ndarray, spec: StudySpec) -> tuple[SplitRows, np.ndarray]:
    """The earliest rows train, later ones validate, the latest test; rows of one moment are in one part.

    ``when``: (n,) without NaN. Also returns (n,) labels: of the test rows the piece of time that each lies in, for
    intervals; the others are their own.
    """
    times, moment, counts = np.unique(when, return_inverse=True, return_counts=True)
    # Where a moment's middle row lies is where the moment is.
    place = (np.cumsum(counts) - counts / 2) / len(when)
    test = 1 - spec.training.test_fraction
    parts = np.select([place > test, place > test - spec.training.validation_fraction], [2, 1], 0)[moment]
    rows = of_parts(parts)
    if min(rows.counts.values()) < 2:
        counts_of = ", ".join(f"{name} {count:,}" for name, count in rows.counts.items())
        message = (
            f"{plural(len(times), 'moment')} of {show(spec.split.column)} cannot be cut in three: {counts_of} rows"
        )
        raise DataError(message, code="split_too_small", pointer=_POINTER)
    labels = _BLOCKS + np.arange(len(when))
    order = rows.test[np.argsort(when[rows.test], kind="stable")]
    labels[order] = np.arange(len(order)) * _BLOCKS // len(order)
    return rows, labels
