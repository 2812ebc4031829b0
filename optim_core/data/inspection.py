"""What is in a table and what would be done with each of its columns; nothing is encoded, nothing trained."""

from __future__ import annotations

import numpy as np

from optim_core.data.columns import Column
from optim_core.data.prepare import Understood
from optim_core.data.target_codes import means_of
from optim_core.data.text import plural
from optim_core.data.widths import gaps_of, levels_of, width_of
from optim_core.spec.columns import ColumnInfo

# Numbers that a date without a time of day becomes.
_WITHOUT_TIME, _TIME_ALONE = 5, 3


def columns_of(found: Understood) -> list[ColumnInfo]:
    """Every column but the target, in the order of the file; none for images."""
    train = found.splits[0].train
    infos = {column.name: _used(column, found, train) for column in found.columns}
    infos |= {one.name: ColumnInfo(one.name, "left out", one.reason, one.missing, 0) for one in found.left_out}
    return [infos[name] for name in found.names]


def _used(column: Column, found: Understood, train: np.ndarray) -> ColumnInfo:
    missing = gaps_of(column)
    if column.levels is None:
        done = _numbers(column, found.scale, missing > 0)
        tail = found.tails.get(column.name)
        if tail is not None and tail.logarithm:
            done = f"its logarithm, since it is heavy-tailed, {done}"
        if tail is not None and tail.moved:
            done = f"{done}; {plural(tail.moved, 'wild value')} moved to the farthest of the others"
    else:
        kept, rare = levels_of(column, train)
        done = _categories(kept, rare, found.codes, missing > 0)
        if rare and means_of(found.classes):
            done = f"{done}; and the mean of the target in each"
    width = width_of(column, train, found.codes, found.classes)
    return ColumnInfo(column.name, column.role, done, missing, width)


def _categories(kept: int, rare: bool, codes: bool, gaps: bool) -> str:
    what = "an embedding for each of" if codes else "one-hot:"
    shared, missing = ", the rare ones together" if rare else "", ", missing is one of them" if gaps else ""
    return f"{what} {plural(kept, 'category')}{shared}{missing}"


def _numbers(column: Column, scale: bool, gaps: bool) -> str:
    assert column.numbers is not None
    of_date = "the year, the week and the day" if column.numbers.shape[1] > _WITHOUT_TIME else "the year and the week"
    days = (
        "hours, and places in the day" if column.numbers.shape[1] == _TIME_ALONE else f"days, and places in {of_date}"
    )
    done = {"flag": "1 and 0", "date": days}.get(column.role, "standardised" if scale else "as it is")
    return f"{done}; gaps filled with the median and flagged" if gaps else done
