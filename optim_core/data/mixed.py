"""Texts with digits that are no plain quantities: codes, times of day, two numbers in a cell, several currencies or units."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from optim_core.data.dates import why_no_dates
from optim_core.data.notation import FEWEST, Notation, Numbers, beyond_exact, call, few, lost_sentence, written_with
from optim_core.data.text import show, show_some
from optim_core.data.texts import Texts

_HALF = r"\s*[AaPp][Mm]$"
_CLOCK = rf"^(?P<hour>\d{{1,3}}):(?P<minute>[0-5]\d)(?::(?P<second>(?:[0-5]\d|60)(?:\.\d+)?))?(?:$|{_HALF})"
_PAIR = r"^(?P<one>\d+(?:\.\d+)?)\s*/\s*(?P<two>\d+(?:\.\d+)?)$"
_DIGITS = re.compile(r"\d+")
# Lengths of the numbers of goods (GTIN, EAN, UPC), whose last digit follows from the others.
_GOODS = frozenset({8, 12, 13, 14})
# Of other numbers one in ten has the right one.
_CHECKED = 0.95
_LOOKED_AT = 2_000
_MOST_KINDS = 5


def why_codes(text: Texts) -> str | None:
    """Why strings of digits are codes and no quantities, as the end of a sentence; None where they are none."""
    distinct = text.distinct
    if not len(distinct) or not all(map(_DIGITS.fullmatch, distinct)):
        return None
    if any(len(one) > 1 and one[0] == "0" for one in distinct):
        return "some begin with 0"
    return why_coded(np.array([float(one) for one in distinct]))


def why_coded(values: np.ndarray) -> str | None:
    """The same of numbers; NaN is a gap."""
    first = values[:100]
    if (first[~np.isnan(first)] % 1 != 0).any():
        return None
    present = values[~np.isnan(values)]
    if not present.size or (present != np.floor(present)).any():
        return None
    if beyond_exact(present):
        return "they have more digits than a number keeps"
    if present.min() < 1e7 or present.max() >= 1e14:
        return None
    distinct = np.unique(present)[:_LOOKED_AT]
    if distinct.size < FEWEST:
        return None
    digits = [f"{one:.0f}" for one in distinct]
    if {len(one) for one in digits} <= _GOODS and np.mean([_is_checked(one) for one in digits]) >= _CHECKED:
        return "their last digit is the check digit of numbers of goods"
    return None


def read_clock(name: str, text: Texts) -> Numbers | None:
    """The column ``name`` of texts such as 14:30, 21:05:30 and 9:05 pm as hours, where a few strays, which count as missing,
    may be among them; None where it is none. More than 24 hours are no time of a day, but how long something took.
    """
    parts = _matched(text.cells, _CLOCK)
    if parts is None:
        return None
    hour, ends = parts["hour"], pd.Series(text.distinct, dtype="str").str[-2:].str.lower()
    hour = np.where(ends.isin(["am", "pm"]), hour % 12 + 12 * (ends == "pm"), hour)
    hours = hour + parts["minute"] / 60 + np.nan_to_num(parts["second"]) / 3600
    return _of_distinct(name, text, hours, "times", "{} counts as {:.6g} hours")


def read_pairs(name: str, text: Texts) -> tuple[np.ndarray, list[str]] | None:
    """The column ``name`` of texts such as 120/80 as (n, 2) numbers, and sentences; None where it is none."""
    parts = _matched(text.cells, _PAIR)
    if parts is None:
        return None
    found = [_of_distinct(name, text, parts[key], "pairs of numbers", "") for key in ("one", "two")]
    if found[0] is None or found[1] is None:
        return None
    example = next(place for place, value in enumerate(parts["one"]) if not np.isnan(value))
    one, two = (f"{parts[key][example]:.6g}" for key in ("one", "two"))
    said = f"In {show(name)} {show(text.distinct[example])} became two numbers, {one} and {two}."
    return np.column_stack([found[0].values, found[1].values]), [*found[0].notes, said]


def why_mixed(name: str, text: Texts, notation: Notation) -> str:
    """What keeps a column of texts that begin or end with numbers from being one of numbers, or of dates; or nothing."""
    distinct = text.first(10 * _LOOKED_AT)[:_LOOKED_AT]
    if len(distinct) < 2:
        return ""
    against = why_no_dates(distinct)
    if against:
        return f"In {show(name)} {against}, so it is read as text."
    marks = written_with(pa.array(distinct, type=pa.large_string()), notation)
    if marks is None or not 2 <= len(marks) <= _MOST_KINDS:
        return ""
    kinds = [show(mark) if mark else "none" for mark in sorted(marks)]
    return f"The numbers of {show(name)} have several currencies or units ({', '.join(kinds)}), so it is read as text."


def alike_but_for_case(name: str, values: Sequence[str]) -> str:
    """Which ``values`` of a column are the same but for case and spaces; or nothing."""
    found: dict[str, list[str]] = {}
    for value in values:
        found.setdefault(" ".join(value.casefold().split()), []).append(value)
    alike = [one for same in found.values() if len(same) > 1 for one in same]
    if not alike:
        return ""
    return f"Some values of {show(name)} differ only in case or spaces and count as different: {show_some(alike)}."


def _matched(cells: pa.Array, pattern: str) -> dict[str, np.ndarray] | None:
    """The groups of ``pattern`` as numbers, NaN where a string has none; None where most do not match."""
    if not len(cells) or call("match_substring_regex", cells.slice(0, 20), pattern=pattern).true_count * 2 < len(
        cells[:20]
    ):
        return None
    found = call("extract_regex", cells, pattern=pattern)
    groups = {found.type.field(i).name: call("struct_field", found, indices=[i]) for i in range(found.type.num_fields)}
    filled = {key: call("if_else", call("equal", group, ""), None, group) for key, group in groups.items()}
    return {key: group.cast(pa.float64()).to_numpy(zero_copy_only=False) for key, group in filled.items()}


def _of_distinct(name: str, text: Texts, values: np.ndarray, what: str, said: str) -> Numbers | None:
    strays, notes = np.flatnonzero(np.isnan(values)), list[str]()
    if len(strays):
        if not few(text, strays):
            return None
        notes.append(lost_sentence(name, text, strays, what))
    if said:
        place = int(np.nanargmax(values))
        notes.append(f"In {show(name)} {said.format(show(text.distinct[place]), values[place])}.")
    return Numbers(text.spread(values, np.nan), notes)


def _is_checked(digits: str) -> bool:
    weighted = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return weighted % 10 == 0
