"""Columns that give the target away: they are warned of and stay, because only a person knows what is there beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from optim_core.data.columns import Column
from optim_core.data.text import show, show_some
from optim_core.spec.split import proposal

# Rank correlation from which on a column is the target in another form: rounding loses that little.
_SAME_ORDER = 0.9999
# Of a few values ranks say little, and of few rows each may be its own.
_FEWEST_VALUES, _ROWS_PER_LEVEL = 20, 5
# A column that is no leak shows it on some rows already.
_LOOKED_AT = 2_000
# What so seldom happens by chance did not.
_BY_CHANCE = 1e-6
_ALONE = "determines the target by itself"


def leaking(
    columns: Sequence[Column], y: np.ndarray, classes: list[str] | None, alike: np.ndarray | None = None
) -> dict[str, str]:
    """A warning, by name, for each column that repeats the target: of numbers in the same or the opposite order all over, or in
    coarser steps; of classes a column each of whose values, or each of whose ranges, has one class. And for each whose gaps do.

    ``alike``: (n,) labels, equal for rows that are copies of each other, which say the same but once.
    """
    warnings = {}
    once = np.arange(len(y)) if alike is None else np.unique(alike, return_index=True)[1]
    few = np.random.default_rng(0).permutation(once)[:_LOOKED_AT]
    looks = few, once
    alone = list[Column]()
    for column in columns:
        if column.levels is not None:
            raw, gone = column.levels.codes, column.levels.gaps
        else:
            raw = _first(column)
            gone = np.isnan(raw)
        how = (
            None
            if column.numbers is not None and column.numbers.shape[1] != 1
            else _by_values(raw, gone, y, looks, classes)
        )
        how = how or (_by_gaps(gone, y, looks, classes) if gone.any() else None)
        if how is not None:
            warnings[column.name] = f"Warning possible_leakage: column {show(column.name)} {how}."
            if how == _ALONE:
                alone.append(column)
    return warnings | _of_individuals(alone, columns)


def _of_individuals(alone: Sequence[Column], columns: Sequence[Column]) -> dict[str, str]:
    """Instead of the leaks of columns that determine the target ``alone``: many values with which others go are what an
    individual has that was measured again, and each has its class.
    """
    said = {}
    for column in alone:
        codes, count = _numbered(column)
        beside = (
            []
            if count < _FEWEST_VALUES
            else [one.name for one in columns if one is not column and _with(codes, count, one)]
        )
        if beside:
            names = show_some([column.name, *beside])
            said[column.name] = (
                f"Warning repeated_measures: rows that agree in {names} agree in the target, too, as those of one individual "
                f"do that was measured again. Where they are, keep them together: {proposal('group', column.name)}; else "
                f"{show(column.name)} gives the target away."
            )
    return said


def _with(codes: np.ndarray, count: int, other: Column) -> bool:
    """Whether each of ``count`` values goes with one of many of ``other``."""
    own, values = _numbered(other)
    return values >= _FEWEST_VALUES and len(pd.unique(codes * (values + 1) + own)) == count


def _numbered(column: Column) -> tuple[np.ndarray, int]:
    """(n,) codes of a column's values, a gap being one; and how many values there are."""
    raw = column.levels.codes if column.levels is not None else _first(column)
    codes, values = pd.factorize(raw, use_na_sentinel=False)
    return codes.astype(np.int64), len(values)


def _first(column: Column) -> np.ndarray:
    assert column.numbers is not None
    return column.numbers[:, 0]


def _by_values(
    raw: np.ndarray, gone: np.ndarray, y: np.ndarray, looks: tuple[np.ndarray, np.ndarray], classes: list[str] | None
) -> str | None:
    """``looks``: rows that are looked at first, for most columns show there that they are no leak; and all."""
    how = None
    for rows in looks:
        part, goal, present = raw[rows], y[rows], ~gone[rows]
        how = None if present.sum() * 2 < len(rows) else _how(part[present], goal[present], classes is not None)
        if how is None:
            return None
    return how


def _by_gaps(
    gone: np.ndarray, y: np.ndarray, looks: tuple[np.ndarray, np.ndarray], classes: list[str] | None
) -> str | None:
    """Whether a value is there only where the target is one class, or lies in a range apart; or is missing only there."""
    how = None
    for rows in looks:
        where, goal = gone[rows], y[rows]
        if min(where.sum(), (~where).sum()) < _ROWS_PER_LEVEL:
            return None
        how = None
        if classes is None:
            ranges = goal[where], goal[~where]
            if _apart(*ranges) and _chance(len(goal), len(ranges[0])) < _BY_CHANCE:
                how = "is there or not as the target is high or low"
        else:
            shares = np.bincount(goal, minlength=len(classes)) / len(goal)
            for side, word in ((~where, "filled"), (where, "empty")):
                code = int(goal[side][0])
                # So many rows of one class, if their class did not matter.
                if (goal[side] == code).all() and side.sum() * np.log(shares[code]) < np.log(_BY_CHANCE):
                    how = f"is {word} only where the target is {show(classes[code])}"
                    break
        if how is None:
            return None
    return how


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(one.max() < other.min() or other.max() < one.min())


def _chance(rows: int, few: int) -> float:
    """That ``few`` of ``rows`` in random order come first or last."""
    return 2 * math.exp(math.lgamma(few + 1) + math.lgamma(rows - few + 1) - math.lgamma(rows + 1))


def _how(raw: np.ndarray, y: np.ndarray, classes: bool) -> str | None:
    """How ``raw``, without gaps, gives ``y`` away; None where it does not. Whole numbers are codes of categories."""
    if not classes:
        return (_in_order(raw, y) if raw.dtype.kind == "f" else None) or _in_steps(raw, y)
    codes, values = pd.factorize(raw)
    kinds = len(np.unique(y))
    if kinds < 2:
        return None
    pairs = len(pd.unique(codes.astype(np.int64) * (int(y.max()) + 1) + y))
    if pairs == len(values) and len(raw) >= _ROWS_PER_LEVEL * len(values):
        return _ALONE
    if raw.dtype.kind == "i" or len(values) < _FEWEST_VALUES:
        return None
    order = np.argsort(raw, kind="stable")
    values_in_order, classes_in_order = raw[order], y[order]
    changed = np.flatnonzero(np.diff(classes_in_order) != 0)
    # As many ranges as classes, and no value at a border in both.
    apart = (values_in_order[changed] != values_in_order[changed + 1]).all()
    return (
        "determines the target by itself: each class has a range of it" if apart and len(changed) == kinds - 1 else None
    )


def _in_order(raw: np.ndarray, y: np.ndarray) -> str | None:
    found, goal = pd.Series(raw), pd.Series(y)
    if found.nunique() < _FEWEST_VALUES or goal.nunique() < _FEWEST_VALUES:
        return None
    ranks = float(np.corrcoef(found.rank(), goal.rank())[0, 1])
    if abs(ranks) < _SAME_ORDER:
        return None
    line = abs(float(np.corrcoef(found, goal)[0, 1]))
    form = "is the target in another unit" if line > 1 - 1e-9 else "rises and falls with the target"
    return f"{form} (rank correlation {ranks:.4f})"


def _in_steps(raw: np.ndarray, y: np.ndarray) -> str | None:
    """Each value has a range of the target to itself: a rounded copy, a band, or a rank."""
    codes, values = pd.factorize(raw)
    counts = np.bincount(codes, minlength=len(values))
    # By how many orders of the rows values could lie so, of all that there are.
    chance = math.lgamma(len(values) + 1) + sum(math.lgamma(n + 1) for n in counts.tolist()) - math.lgamma(len(raw) + 1)
    if len(values) < 2 or chance > math.log(_BY_CHANCE):
        return None
    order = np.lexsort((y, codes))
    firsts = np.r_[0, np.cumsum(counts)[:-1]]
    low, high = y[order][firsts], y[order][firsts + counts - 1]
    ranked = np.argsort(low, kind="stable")
    if not (high[ranked][:-1] < low[ranked][1:]).all():
        return None
    if raw.dtype.kind == "f" and not _monotone(np.asarray(values, dtype=np.float64)[ranked]):
        return None
    if len(np.unique(y)) == len(values):
        return f"is the target in another form: each of its {len(values):,} values goes with one of the target's"
    return f"is the target in coarser steps: each of its {len(values):,} values has a range of the target to itself"


def _monotone(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())
