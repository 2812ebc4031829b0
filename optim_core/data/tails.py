"""Values that would decide everything: held back or on a logarithmic scale among features, said or refused in a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optim_core.data.columns import Column
from optim_core.data.scales import logarithm, slips, spread
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError

# A hundredth of the rows that has more than this share of all squares of deviations decides a squared error.
_TAIL, _SHARE = 0.01, 0.5
# Of all squares of deviations: beside what has more the others are nothing.
_ALL = 0.99
# In usual distances from the median: beyond, a value of a small table is no chance of a bell curve.
_FAR = 8


@dataclass(frozen=True)
class Tamed:
    """``block``: (n, p) with NaN for gaps. ``moved``: (p,) how many slips were moved to the farthest value of the training rows
    that is none, on their side of the median. ``logarithms``: (p,) bool.
    """

    block: NDArray[np.float64]
    moved: NDArray[np.intp]
    logarithms: NDArray[np.bool_]


def tamed(block: NDArray[np.float64], train: NDArray[np.intp], quantity: Sequence[bool]) -> Tamed:
    """(n, p) with NaN for gaps, slips held back and heavy tails on a logarithmic scale; the very same where there is neither.

    What is a slip, and which scale, is learned from ``train`` alone. ``quantity``: (p,) columns that may be on another scale.
    """
    moved, logarithms = np.zeros(block.shape[1], dtype=np.intp), np.zeros(block.shape[1], dtype=bool)
    result = block
    for j in range(block.shape[1]):
        seen = block[train, j]
        seen = seen[~np.isnan(seen)]
        if len(seen) == 0:
            continue
        own = spread(seen)
        wild = slips(block[:, j], own)
        if wild.any():
            result = block.copy() if result is block else result
            seen = seen[~slips(seen, own)]
            result[wild, j] = np.clip(block[wild, j], seen.min(), seen.max())
            moved[j], own = int(wild.sum()), spread(seen)
        scale = logarithm(seen, own) if quantity[j] else None
        if scale is not None:
            result = block.copy() if result is block else result
            result[:, j] = scale(result[:, j])
            logarithms[j] = True
    return Tamed(result, moved, logarithms)


@dataclass(frozen=True)
class Tail:
    """What ``tamed`` does to a column: how many values it moves, whether it takes logarithms, and sentences of both."""

    name: str
    moved: int
    logarithm: bool
    said: list[str]


def tails_of(columns: Sequence[Column], train: NDArray[np.intp]) -> list[Tail]:
    """What ``tamed`` will do, column by column; of those alone to which it does anything."""
    found = []
    for column in columns:
        if column.role != "number" or column.numbers is None:
            continue
        width = column.numbers.shape[1]
        done = tamed(column.numbers, train, [True] * width)
        said = [_far_value(column, tamed(column.numbers, train, [False] * width))] if done.moved.any() else []
        if done.logarithms.any():
            said.append(f"{show(column.name)} is taken as its logarithm, since it is heavy-tailed.")
        if said:
            found.append(Tail(column.name, int(done.moved.sum()), bool(done.logarithms.any()), said))
    return found


def _far_value(column: Column, held: Tamed) -> str:
    assert column.numbers is not None
    at = np.flatnonzero((held.block != column.numbers) & ~np.isnan(column.numbers))
    given, count = column.numbers.ravel()[at], int(held.moved.sum())
    shown = ", ".join(f"{value:g}" for value in np.unique(given)[:3]) + (" …" if len(np.unique(given)) > 3 else "")
    others = np.delete(column.numbers.ravel(), at)
    middle, to = np.nanmedian(others), ", ".join(f"{value:g}" for value in np.unique(held.block.ravel()[at])[:2])
    return (
        f"Warning far_value: {show(column.name)} is {shown} in {plural(count, 'row')}, the others lie around {middle:g}; "
        f"{'it counts' if count == 1 else 'they count'} as {to}, the farthest of the others. A slip of the pen is better "
        "corrected in the table."
    )


def target_tails(values: NDArray[np.float64], name: str) -> list[str]:
    """A warning where few rows decide the error. Raises DataError ``target_wild`` where slips drown all others."""
    seen = spread(values)
    middle, usual = seen.middle, seen.usual
    apart = np.abs(values - middle)
    farthest = int(apart.argmax())
    wild = slips(values, seen)
    if wild.any() and (apart[wild] ** 2).sum() > _ALL * (apart**2).sum():
        count = int(wild.sum())
        message = (
            f"the target {show(name)} is {'' if count == 1 else 'up to '}{values[farthest]:g} in "
            f"{'one row' if count == 1 else f'{count:,} rows'}, where the others lie around {middle:g}, none nearly so far: "
            f"correct {'that value or leave its row' if count == 1 else 'those values or leave their rows'} out, for no other "
            f"would count beside {'it' if count == 1 else 'them'}"
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
