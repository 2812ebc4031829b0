"""Values so far from all others that they decide everything: held back among features, said or refused in a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.data.columns import Column
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError

# So many times as far from the median as values usually are, among those that differ from it: nothing is measured there.
WILD = 1e4
# In float32 the others would all be one number.
_DROWNED = 1e7
# A hundredth of the rows that has more than this share of all squares of deviations decides a squared error.
_TAIL, _SHARE = 0.01, 0.5
# In usual distances from the median: beyond, a value of a small table is no chance of a bell curve.
_FAR = 8


def held_back(block: NDArray[np.float64], train: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(n, p) with NaN for gaps → the same with wild values moved to the farthest value of the training rows that is none, on
    their side of the median; and (p,) how many were moved. What is wild is learned from ``train`` alone.
    """
    moved = np.zeros(block.shape[1], dtype=np.intp)
    result = block
    for j in range(block.shape[1]):
        seen = block[train, j]
        seen = seen[~np.isnan(seen)]
        if len(seen) == 0:
            continue
        middle, usual = _usual(seen)
        with np.errstate(invalid="ignore"):
            wild = np.abs(block[:, j] - middle) > WILD * usual
        if usual == 0 or not wild.any():
            continue
        tame = seen[np.abs(seen - middle) <= WILD * usual]
        if result is block:
            result = block.copy()
        result[wild, j] = np.clip(block[wild, j], tame.min(), tame.max())
        moved[j] = int(wild.sum())
    return result, moved


@dataclass(frozen=True)
class Wild:
    """Values of a column that ``held_back`` moves: how many, and a warning that says where to."""

    name: str
    count: int
    warning: str


def wild_in(columns: Sequence[Column], train: NDArray[np.intp]) -> list[Wild]:
    """What ``held_back`` will do, column by column."""
    found = []
    for column in columns:
        if column.role != "number" or column.numbers is None:
            continue
        held, moved = held_back(column.numbers, train)
        if not moved.any():
            continue
        at = np.flatnonzero((held != column.numbers) & ~np.isnan(column.numbers))
        given, count = column.numbers.ravel()[at], int(moved.sum())
        shown = ", ".join(f"{value:g}" for value in np.unique(given)[:3]) + (" …" if len(np.unique(given)) > 3 else "")
        others = np.delete(column.numbers.ravel(), at)
        middle, to = np.nanmedian(others), ", ".join(f"{value:g}" for value in np.unique(held.ravel()[at])[:2])
        found.append(Wild(column.name, count, (
            f"Warning far_value: {show(column.name)} is {shown} in {plural(count, 'row')}, the others lie around {middle:g}; "
            f"{'it counts' if count == 1 else 'they count'} as {to}, the farthest of the others. A slip of the pen is better "
            "corrected in the table."
        )))  # fmt: skip
    return found


def target_tails(values: NDArray[np.float64], name: str) -> list[str]:
    """A warning where few rows decide the error. Raises DataError ``target_wild`` where one value drowns all others."""
    middle, usual = _usual(values)
    apart = np.abs(values - middle)
    farthest = int(apart.argmax())
    if usual > 0 and apart[farthest] > _DROWNED * usual:
        message = (
            f"the target {show(name)} is {values[farthest]:g} in one row, where the others lie around {middle:g}: correct that "
            "value or leave its row out, for no other would count beside it"
        )
        raise DataError(message, code="target_wild", pointer="/dataset/target")
    squares = np.sort((values - values.mean()) ** 2)
    few = max(1, round(_TAIL * len(values)))
    share = float(squares[-few:].sum() / squares.sum())
    # Of a dozen rows the farthest has half of all squares by chance.
    usual_here = len(values) < 1 / _TAIL and apart[farthest] <= _FAR * usual
    if share <= _SHARE or usual_here:
        return []
    helps = "a column with its logarithm as the target, or metric: mae" if values.min() > 0 else "metric: mae"
    one = few == 1
    return [
        f"Warning heavy_tail: {few:,} of {len(values):,} rows {'has' if one else 'have'} {share:.0%} of the squared deviations "
        f"of {show(name)} ({'it is' if one else 'up to'} {values[farthest]:g}, where the others lie around {middle:g}), so "
        f"{'it decides' if one else 'they decide'} the squared error; {helps} would hear the others."
    ]


def _usual(values: NDArray[np.float64]) -> tuple[float, float]:
    """The median, and the median distance from it of the values that differ from it; 0 where none does."""
    middle = float(np.median(values))
    apart = np.abs(values - middle)
    apart = apart[apart > 0]
    return middle, float(np.median(apart)) if len(apart) else 0.0
