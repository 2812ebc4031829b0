"""Rows around the names of columns: a second row of names under merged cells, a row of units, or no row of names at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from pandas.api import types

_NUMBER = re.compile(r"[+-]?(\d[\d.,' ]*|\.\d+)([eE][+-]?\d+)?%?")
_YEAR = re.compile(r"(19|20)\d\d")
# kg, [m/s], (°C), µg/m³, €; never <0.1 or 12 kg.
_UNIT = re.compile(r"[\[({]?\s*(?:[^\W\d_]|[%‰°€$£¥])[^\s<>]{0,11}( ?/ ?[^\s<>]{1,8})?\s*[\])}]?")
_NO_UNIT = frozenset(
    "na n/a nan null none nil nat missing unknown unk other true false yes no".split()  # noqa: SIM905
)
_BELOW, _FEWEST = 20, 3
# A name is looked for among so many values of its column.
_LOOKED_AT = 10_000


def is_number(text: str) -> bool:
    """Whether ``text`` is written as a number."""
    return _NUMBER.fullmatch(text) is not None


def joined_names(upper: Sequence[str], lower: Sequence[str], below: Sequence[Sequence[str]]) -> list[str] | None:
    """The names of two rows of them, ``Sales`` over ``2019`` and ``2020``; None where ``lower`` is a row of the table.

    Of merged cells the first one has the text. ``below``: the next rows, whose numbers tell them from names.
    """
    width = max(map(len, (upper, lower, *below)))
    over, under = _padded(upper, width), _padded(lower, width)
    merged = [bool(low) and not up for up, low in zip(over, under, strict=True)]
    if not any(merged[1:]) or any(low and not _is_name(low) for low in under):
        return None
    numbers = _number_columns(below, width)
    if not any(low and number for low, number in zip(under, numbers, strict=True)):
        return None
    names, group = list[str](), ""
    for place, (up, low) in enumerate(zip(over, under, strict=True)):
        group = up or (group if low and place and under[place - 1] else "")
        names.append(" ".join(part for part in (group, low) if part))
    return names


def are_units(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether ``row`` has a unit, and no number, over each of the columns that are numbers in the rows ``below``."""
    width = max(map(len, (row, *below)), default=0)
    numbers = _number_columns(below, width)
    over = [cell for cell, number in zip(_padded(row, width), numbers, strict=True) if number]
    units = [cell for cell in over if cell and cell.lower() not in _NO_UNIT and _UNIT.fullmatch(cell)]
    bracketed = any(unit[0] in "[({" for unit in units)
    return len(units) >= (1 if bracketed else 2) and all(cell in ("", "-", *units) for cell in over)


def look_like_data(names: Sequence[str], columns: Sequence[pd.Series]) -> bool:
    """Whether the ``names`` of ``columns`` may be values of them: numbers over numbers, and texts that occur below.

    Whole numbers that count on are names, such as years.
    """
    if len(names) < 2 or not all(names):
        return False
    numbers = [name for name in names if is_number(name)]
    if len(numbers) > 1 and all(name.isdecimal() for name in numbers):
        counted = [int(name) for name in numbers]
        if len({later - earlier for earlier, later in pairwise(counted)}) == 1:
            return False
    return all(_is_value(name, column) for name, column in zip(names, columns, strict=True))


def _is_value(name: str, column: pd.Series) -> bool:
    head = column.head(_LOOKED_AT)
    if types.is_numeric_dtype(head) and not types.is_bool_dtype(head):
        return is_number(name)
    return bool((head.dropna().astype("str").str.strip() == name).any())


def _is_name(cell: str) -> bool:
    return (not is_number(cell) or _YEAR.fullmatch(cell) is not None) and cell.lower() not in _NO_UNIT


def _padded(row: Sequence[str], width: int) -> list[str]:
    return [*(cell.strip() for cell in row), *[""] * (width - len(row))]


def _number_columns(rows: Sequence[Sequence[str]], width: int) -> list[bool]:
    """Of each column whether it is one of numbers in the first ``rows``."""
    columns = zip(*(_padded(row, width) for row in rows[:_BELOW]), strict=True)
    filled = [[cell for cell in column if cell and cell.lower() not in _NO_UNIT] for column in columns]
    return [len(cells) >= _FEWEST and all(map(is_number, cells)) for cells in filled] or [False] * width
