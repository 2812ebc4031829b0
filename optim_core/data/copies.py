"""Rows that repeat: a copy of a training row among the test rows is known by heart, whatever was learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.util import hash_array

from optim_core.data.columns import Column
from optim_core.data.split import FEWEST_FOLDS
from optim_core.data.text import plural

# Fewer different rows cannot be told from a table whose columns have few values.
_FEWEST = 25
# Different values of a column over different rows, from which on rows do not agree in it by chance.
_FINE = 0.5
_LOOKED_AT = 20_000
_AT_FIRST = 5
# Rows that only happen to agree seldom agree in the target, too.
_AGREE = 0.95
# A row that more than one in so many rows repeat is one that many share, unless all else says that it was copied.
_MANY = 10
# So many times as many pairs of equal rows as chance makes are copies; a column that could take so many times as many values
# as there are different rows tells them apart.
_RATHER, _FINER = 10, 5
# Targets that agree as seldom as this by chance are those of copies.
_SELDOM = 1e-6
# An odd number that spreads the bits of a hash over all others (of the golden ratio; Knuth, vol. 3, 6.4).
_MIX = 0x9E3779B97F4A7C15


def repeated(
    columns: Sequence[Column], images: np.ndarray | None, y: np.ndarray
) -> tuple[np.ndarray | None, list[str]]:
    """(n,) labels, equal for rows whose features are all equal, and a sentence; None and nothing where no row repeats.

    Where columns are coarse (a few flags or categories) different individuals agree by chance: such rows count as copies only
    if their targets agree, too, or if there are many more of them than chance makes, or if hardly any rows agree in all columns
    but the finest one, as by chance many more would. A row that more than a tenth of all repeat is one that many share; those
    stay single, unless features and target leave no doubt.
    """
    if images is not None:
        rows = pd.Series([np.ascontiguousarray(image).tobytes() for image in images])
        return _labelled(_numbered(rows.to_numpy(object)), None, None, y)
    parts = [part for column in columns if column.numbers is not None for part in column.numbers.T]
    mixed = np.zeros(len(y), dtype=np.uint64)
    for i, part in enumerate(parts):
        mixed += _hashed(part, i)
        # Where a few columns tell all rows apart, as they mostly do, that is all there is to find out.
        if i == _AT_FIRST and int(_numbered(mixed).max()) == len(y) - 1:
            return None, []
    for levels in (column.levels for column in columns if column.levels is not None):
        mixed += _hashed(levels.codes, len(parts))
        parts.append(levels.codes)
    return _labelled(_numbered(mixed), parts, mixed, y)


def _hashed(part: np.ndarray, place: int) -> np.ndarray:
    """(n,) uint64 that may be added up: equal values of a column have equal ones."""
    return hash_array(part) * np.uint64(_MIX * (2 * place + 1) % 2**64)  # pyright: ignore[reportCallIssue]


def _numbered(values: np.ndarray) -> np.ndarray:
    codes, _ = pd.factorize(values)
    return codes.astype(np.int64)


def _labelled(
    label: np.ndarray, parts: Sequence[np.ndarray] | None, mixed: np.ndarray | None, y: np.ndarray
) -> tuple[np.ndarray | None, list[str]]:
    """``label``: (n,) numbers from 0 on of the different rows; ``parts``: their columns, whole numbers being the codes of
    categories, and ``mixed`` what was added up of them; None for images.
    """
    sizes = np.bincount(label)
    again = len(y) - len(sizes)
    if not again:
        return None, []
    same, shared = _same_target(label, y), sizes > len(y) / _MANY
    copies = np.ones(len(sizes), dtype=bool)
    if parts is not None and mixed is not None:
        fine, expected = _by_chance(parts, label)
        certain = _pairs(label) >= _RATHER * expected
        agree = _agreeing(sizes, same) >= _AGREE and _seldom_agree(sizes, y)
        rare = again * 2 < len(y) and _pairs(_without_finest(parts, mixed, label)) <= 2 * _pairs(label)
        if agree and certain and fine >= _FINER * len(sizes):
            shared[:] = False
        elif len(sizes) < _FEWEST or not (rare or certain or agree):
            copies[:] = False
        elif not rare:
            known = _known_finely(parts, label)
            copies = np.bincount(label, weights=known) > 0 if not agree else copies
            # One value that most of those share who share any is a code, if their targets differ.
            pairs = sizes * (sizes - 1.0)
            copies &= same | (pairs * 2 <= pairs.sum())
    # Those that many share stay single.
    copies &= ~shared
    single = np.flatnonzero(~copies[label])
    label[single] = len(sizes) + np.arange(len(single))
    units = len(pd.unique(label))
    kept = len(y) - units
    if kept and units >= FEWEST_FOLDS:
        return label, [
            f"{plural(kept, 'row')} {'repeats' if kept == 1 else 'repeat'} the features of another one: rows that are alike "
            "stay in one part of the split, and count as one in intervals."
        ]
    return None, [
        _said(
            again,
            len(sizes),
            bool(same[sizes > 1].all()),
            _seldom_agree(sizes, y),
            parts is not None and not copies.any(),
        )
    ]


def _said(again: int, different: int, same: bool, told: bool, coarse: bool) -> str:
    """Why rows that agree are split like all others. ``told``: that targets agree would say something."""
    rows = f"{plural(again, 'row')} {'has' if again == 1 else 'have'} the features of another one"
    if same and not told:
        return f"{rows} and its target, which may be chance: they are split like all others."
    if same:
        return (
            f"Warning repeated_rows: {rows} and its target, so there are {different:,} different rows: where they are copies, "
            "what is known by heart scores as well as what was learned. Copies are better left out of the table."
        )
    how = ", as few values make likely," if coarse else ""
    return f"{rows}{how} but not always its target: they are no copies and split like all others."


def _without_finest(parts: Sequence[np.ndarray], mixed: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(n,) labels as of all columns but the one that takes most values."""
    first = np.unique(label, return_index=True)[1][:_LOOKED_AT]
    finest = max(range(len(parts)), key=lambda i: len(pd.unique(parts[i][first])))
    return _numbered(mixed - _hashed(parts[finest], finest))


def _pairs(label: np.ndarray) -> float:
    """How many pairs of rows have the same label."""
    sizes = np.bincount(label).astype(np.float64)
    return float((sizes * (sizes - 1)).sum() / 2)


def _by_chance(parts: Sequence[np.ndarray], label: np.ndarray) -> tuple[float, float]:
    """How many values the finest column could take, and how many pairs of rows would agree in all columns if these took theirs
    evenly and one by one.
    """
    first = np.unique(label, return_index=True)[1][:_LOOKED_AT]
    could = [_could_take(part[first]) for part in parts]
    rows = float(len(label))
    return max(could), rows * (rows - 1) / 2 / min(math.prod(could), 1e30)


def _could_take(part: np.ndarray) -> float:
    """How many values a column could take: of categories those it has, of numbers the steps between the least and the greatest,
    a step being the largest of which all values are multiples, of up to six decimals.
    """
    values = pd.unique(part)
    if part.dtype.kind == "i":
        return float(len(values))
    values = np.unique(values[~np.isnan(values)])
    if len(values) < 2:
        return 1.0
    for decimals in range(7):
        scaled = np.round(values * 10.0**decimals)
        if np.abs(scaled).max() > 2.0**53:
            break
        if np.allclose(scaled / 10.0**decimals, values, rtol=1e-12, atol=0):
            steps = np.diff(scaled.astype(np.int64))
            return float(steps.sum() / np.gcd.reduce(steps)) + 1
    return float(np.ptp(values) / np.diff(values).min()) + 1


def _known_finely(parts: Sequence[np.ndarray], label: np.ndarray) -> np.ndarray:
    """(n,) whether a row has a value of a column of numbers that could take more values than there are rows and takes many
    among different rows: rows that agree in such a value do not do so by chance.
    """
    first = np.unique(label, return_index=True)[1][:_LOOKED_AT]
    known = np.zeros(len(label), dtype=bool)
    for part in parts:
        if part.dtype.kind == "i" or known.all():
            continue
        values = np.unique(part[first])
        if (~np.isnan(values)).sum() >= max(2, _FINE * len(first)) and _could_take(part[first]) >= len(label):
            known |= ~np.isnan(part)
    return known


def _same_target(label: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(labels,) whether all rows of a label have one target."""
    order, sizes = np.argsort(label, kind="stable"), np.bincount(label)
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    return np.minimum.reduceat(y[order], starts) == np.maximum.reduceat(y[order], starts)


def _agreeing(sizes: np.ndarray, same: np.ndarray) -> float:
    """The share of the rows that repeat whose target is the same in all of them."""
    several = sizes > 1
    return float((sizes * (same & several)).sum() / sizes[several].sum())


def _seldom_agree(sizes: np.ndarray, y: np.ndarray) -> bool:
    """Whether it says something that targets agree: by chance they would not, for each value is one of several."""
    commonest = float(pd.Series(y).value_counts().iloc[0]) / len(y)
    return commonest < 1 and float((sizes - 1).sum()) * math.log(commonest) < math.log(_SELDOM)
