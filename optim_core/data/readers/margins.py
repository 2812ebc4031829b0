"""Rows of a file that are none of its table: the names once more, ruled lines, and what stands below the last row.

Files that were written one after the other repeat their names, lists for paper do so on each page, and a source or a date
stands below a table as a title does above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from optim_core.data.notation import call, is_textual
from optim_core.data.readers.head_rows import is_number
from optim_core.data.readers.headers import clean_name
from optim_core.data.text import plural, show

# Three of a sign at least in one cell: one alone may stand for no value.
_RULE = re.compile(r"\s*[-=_+|:\u2500-\u257f]+\s*")
_RULED = ("---", "===", "___", "\u2500\u2500\u2500", "\u2550\u2550\u2550")
# So many rows may stand below a table, which are told from its own by so many above them.
_BELOW, _LOOKED_AT = 10, 200


@dataclass(frozen=True)
class Inner:
    """``columns``: those of the rows that belong to the table; ``report``: what was passed over, a sentence each."""

    columns: list[pd.Series]
    report: list[str]


def key_of(fields: Sequence[object]) -> tuple[str, ...]:
    """What two rows that say the same have in common: their cells as names are made alike, without empty ones at the end."""
    cells = [clean_name(field) for field in fields]
    while cells and not cells[-1]:
        cells.pop()
    return tuple(cells)


def is_rule(fields: Sequence[str]) -> bool:
    """Whether the filled ``fields`` of a row hold nothing but dashes and the like, three side by side in one at least."""
    filled = [field for field in fields if field and not field.isspace()]
    return all(map(_RULE.fullmatch, filled)) and any(sign in field for sign in _RULED for field in filled)


def without_repeated(columns: list[pd.Series], heads: Sequence[tuple[str, ...]]) -> Inner:
    """``columns`` without the rows that say the same as one of ``heads``, the rows of the names. No row of values does so: of
    two columns one would have to hold its own name where another does the same.
    """
    width = len(columns)
    wanted = [head for head in heads if len(head) <= width and sum(map(bool, head)) >= min(2, width)]
    found = [_equal(columns, [*head, *[""] * (width - len(head))]) for head in dict.fromkeys(wanted)]
    rows = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    if not rows.size:
        return Inner(columns, [])
    many = "repeats" if len(rows) == 1 else "repeat"
    return Inner(
        _without(columns, rows), [f"Passed over {plural(len(rows), 'row')} that {many} the names of the columns."]
    )


def without_edges(columns: list[pd.Series]) -> Inner:
    """``columns`` without ruled lines among their rows and without lines below them: the last rows with a text in their first
    cell alone, where no other row has but one.
    """
    report = []
    rules = _rules(columns)
    if rules.size:
        columns = _without(columns, rules)
        report.append(passed_over_rules(len(rules)))
    below = _below(columns)
    if below.size:
        report.append(passed_over_below(len(below), str(columns[0].iloc[below[0]])))
        columns = _without(columns, below)
    return Inner(columns, report)


def passed_over_rules(count: int) -> str:
    return f"Passed over {plural(count, 'ruled line')} among the rows."


def passed_over_below(count: int, first: str) -> str:
    return f"Passed over {plural(count, 'line')} below the rows, such as {show(first.strip())}."


def _equal(columns: list[pd.Series], head: list[str]) -> np.ndarray:
    """The places of the rows that say the same as ``head``."""
    none = np.empty(0, np.int64)
    if any(not is_textual(column) and name and not is_number(name) for column, name in zip(columns, head, strict=True)):
        return none
    named = [place for place, name in enumerate(head) if name and is_textual(columns[place])]
    if not named:
        # Names that are numbers over numbers: a row of values may be the same.
        return none
    # The first cell may have a byte order mark in front, where a file was written behind another.
    first = named[-1]
    texts = pa.chunked_array(pa.array(columns[first], type=pa.large_string()))
    same = call("equal", call("utf8_trim_whitespace", texts), head[first])
    loose = call("match_substring", texts, pattern=head[first]) if len(named) == 1 else same
    rows = np.flatnonzero(call("coalesce", loose, False).to_numpy())
    for column, name in zip(columns, head, strict=True):
        if not rows.size:
            return none
        cells = column.iloc[rows]
        if is_textual(column):
            alike = {cell for cell in cells.dropna().unique() if clean_name(cell) == name}
            fits = cells.isin(alike) | (cells.isna() if not name else False)
        else:
            fits = (
                cells.isna()
                if not name
                else cells == float(name.replace(",", ""))
                if _is_plain(name)
                else cells != cells
            )
        rows = rows[fits.to_numpy(bool, na_value=False)]
    return rows


def _is_plain(name: str) -> bool:
    return name.replace(".", "", 1).isdecimal()


def _rules(columns: list[pd.Series]) -> np.ndarray:
    # Whatever the layout, a ruled line fills the first column that has a text, or makes it one of texts.
    first = next((column for column in columns if is_textual(column) and column.notna().any()), None)
    if first is None or len(columns) < 2:
        return np.empty(0, np.int64)
    texts = pa.chunked_array(pa.array(first, type=pa.large_string()))
    found = np.zeros(len(first), dtype=bool)
    for sign in _RULED:
        found |= call("coalesce", call("match_substring", texts, pattern=sign), False).to_numpy()
    rows = np.flatnonzero(found)
    if not rows.size:
        return rows
    for column in columns:
        cells = column.iloc[rows]
        ruled = {cell for cell in cells.dropna().unique() if _RULE.fullmatch(str(cell)) or not str(cell).strip()}
        rows = rows[(cells.isna() | cells.isin(ruled)).to_numpy(bool)]
    return rows


def _below(columns: list[pd.Series]) -> np.ndarray:
    none = np.empty(0, np.int64)
    if len(columns) < 3 or not is_textual(columns[0]):
        return none
    tails = [column.iloc[-_LOOKED_AT:] for column in columns]
    filled = np.array([_filled(tail) for tail in tails])
    alone = filled[0] & (filled.sum(axis=0) == 1)
    last = len(alone)
    while last and alone[last - 1]:
        last -= 1
    rows = np.arange(last, len(alone))
    if not 0 < len(rows) <= _BELOW or len(rows) >= last or alone[:last].any():
        return none
    texts = [str(cell).strip() for cell in tails[0].iloc[last:]]
    if any(is_number(text) for text in texts) or tails[0].iloc[:last].isin(texts).any():
        return none
    return rows + len(columns[0]) - len(alone)


def _filled(cells: pd.Series) -> np.ndarray:
    there = cells.notna()
    if is_textual(cells):
        there &= cells.str.strip() != ""
    return there.to_numpy(bool, na_value=False)


def _without(columns: list[pd.Series], rows: np.ndarray) -> list[pd.Series]:
    kept = np.ones(len(columns[0]), dtype=bool)
    kept[rows] = False
    return [column.loc[kept].reset_index(drop=True) for column in columns]
