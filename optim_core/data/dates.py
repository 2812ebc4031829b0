"""Texts that are dates. The order of day and month is that of the column as a whole.

dateutil guesses cell by cell, so that 01/02 and 13/02 of one column are read in two orders, and takes ``10`` for a date; pandas
takes the format of the first cell, or mixes them. So the parts of a date are found here, and pandas only counts with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from optim_core.data.date_shapes import SHAPES, likely_shapes, month_called, offset_of
from optim_core.data.notation import call, few, lost_sentence
from optim_core.data.text import show
from optim_core.data.texts import Texts

# Where this century's years of two digits may end: not before the year of writing. No clock: the same file has to mean the
# same next year.
_FIRST_PIVOT, _LAST_PIVOT = 27, 41
# Between them nobody takes such years for others.
_POSIX_FROM, _POSIX_TO = np.datetime64("1969"), np.datetime64(f"20{_FIRST_PIVOT}")
_SAMPLE = 50
# What has no year is put into one that has all days.
_NO_YEAR = 2000
# Minutes east of Greenwich of a zone that is not known.
_NOWHERE = 10_000


@dataclass(frozen=True)
class Dates:
    """``stamps``: as the column, in UTC without a zone, NaT where there is none. ``notes``: what was decided, in sentences."""

    stamps: pd.Series
    notes: list[str]


def read_dates(name: str, text: Texts) -> Dates | None:
    """The column ``name`` as dates; None where it is none of dates. Few strays count as missing, as in numbers.

    What is read: see ``date_shapes``.
    """
    cells = text.cells
    if not len(cells) or all(np.isnat(stamps).mean() > 0.5 for stamps in _stamps(_sample(cells))[:2]):
        return None
    month_first, day_first, unsure, short = _stamps(cells)
    stamps, why = _ordered(month_first, day_first, unsure, text.codes)
    strays = np.flatnonzero(np.isnat(stamps))
    notes = []
    if len(strays):
        if not few(text, strays):
            return None
        notes.append(lost_sentence(name, text, strays, "dates"))
        against = _contradiction(text.distinct, month_first, day_first)
        if against:
            notes.append(f"In {show(name)} {against}.")
    if why:
        notes.append(f"In {show(name)} {why}.")
    years = stamps[short & ~np.isnat(stamps)].astype("datetime64[Y]")
    if len(years) and (years.min() < _POSIX_FROM or years.max() >= _POSIX_TO):
        span = f"{years.min()} to {years.max()}" if years.min() < years.max() else years.min()
        notes.append(f"In {show(name)} years of two digits are {span}.")
    return Dates(pd.Series(text.spread(stamps, np.datetime64("NaT", "us"))), notes)


def why_no_dates(distinct: Any) -> str:
    """Where ``distinct`` strings are dates of two orders of day and month: which, as half a sentence; else nothing."""
    month_first, day_first, *_ = _stamps(pa.array(distinct, type=pa.large_string()))
    known = ~np.isnat(month_first) | ~np.isnat(day_first)
    return _contradiction(distinct, month_first, day_first) if known.mean() > 0.5 else ""


def _contradiction(distinct: Any, month_first: np.ndarray, day_first: np.ndarray) -> str:
    month_only = np.flatnonzero(~np.isnat(month_first) & np.isnat(day_first))
    day_only = np.flatnonzero(np.isnat(month_first) & ~np.isnat(day_first))
    if not len(month_only) or not len(day_only):
        return ""
    return (
        f"dates contradict each other: {show(distinct[month_only[0]])} can only be month first, "
        f"{show(distinct[day_only[0]])} only day first"
    )


def _ordered(
    month_first: np.ndarray, day_first: np.ndarray, unsure: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, str]:
    """The reading that fits more values, else the one in which the rows are in order of time, else the usual one."""
    if not unsure.any():
        return month_first, ""
    fits = int((~np.isnat(month_first)).sum()), int((~np.isnat(day_first)).sum())
    if fits[0] != fits[1]:
        return (
            (month_first, "the dates are read month first")
            if fits[0] > fits[1]
            else (day_first, "the dates are read day first")
        )
    rows = codes[codes >= 0]
    sorted_ = _in_time(month_first[rows]), _in_time(day_first[rows])
    if sorted_[0] != sorted_[1]:
        order = ", as the rows are in order of time so"
        return (
            (month_first, f"the dates are read month first{order}")
            if sorted_[0]
            else (day_first, f"the dates are read day first{order}")
        )
    # Points between the numbers are a European habit.
    usual = "day" if bool((unsure == 2).any()) else "month"
    return (day_first if usual == "day" else month_first), f"the dates are read {usual} first, though either would fit"


def _in_time(stamps: np.ndarray) -> bool:
    known = stamps[~np.isnat(stamps)]
    steps = np.diff(known).astype(np.int64)
    return bool((steps >= 0).all() or (steps <= 0).all())


def _stamps(cells: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(distinct,) datetime64[us] by month first and by day first, NaT for what is no date; and 1 where the two may differ,
    2 where there are points between the numbers; and whether the year has two digits.
    """
    plain = call("utf8_trim_whitespace", cells)
    readings = np.full((2, len(cells)), np.datetime64("NaT", "us"))
    unsure, short = np.zeros(len(cells), dtype=int), np.zeros(len(cells), dtype=bool)
    matched, years = list[tuple[np.ndarray, dict[str, pa.Array]]](), np.full(len(cells), _NO_YEAR)
    likely = likely_shapes(_sample(plain).to_pylist())
    left = np.arange(len(cells))
    # What the sample lacks may be in the few cells that are left; where it has nothing at all, there is none.
    for pattern in [*likely, *(shape for shape in SHAPES if shape not in likely)] if likely else []:
        found = call("extract_regex", plain if len(left) == len(cells) else plain.take(pa.array(left)), pattern=pattern)
        here = found.is_valid().to_numpy(zero_copy_only=False)
        if not here.any():
            continue
        at = pa.array(np.flatnonzero(here))
        part = {
            found.type.field(i).name: call("struct_field", found, indices=[i]).take(at)
            for i in range(found.type.num_fields)
        }
        places, left = left[here], left[~here]
        matched.append((places, part))
        if "year" in part:
            years[places] = _numbers(part["year"])
            short[places] = np.asarray(call("utf8_length", part["year"]).to_numpy(zero_copy_only=False)) == 2
        if not len(left):
            break
    years[short] += np.where(years[short] < _pivot(years[short]), 2000, 1900)
    for places, part in matched:
        year = years[places]
        same = _equal(part["mark"], part["again"]) if "again" in part else np.ones(len(places), bool)
        if "week" in part:
            readings[:, places] = _weeks(part, year)
            continue
        if "one" not in part:
            same = same | _equal(part["again"], "") if "again" in part else same
            month = _month(part)
            readings[:, places] = _dates(
                part, year, month, _numbers(part["day"], 1) if "day" in part else np.ones_like(month), same
            )
            continue
        one, two = _numbers(part["one"]), _numbers(part["two"])
        readings[0, places] = _dates(part, year, one, two, same)
        readings[1, places] = _dates(part, year, two, one, same)
        unsure[places] = 1 + _equal(part["mark"], ".")
    return readings[0], readings[1], unsure, short


def _sample(cells: pa.Array) -> pa.Array:
    """Some of the cells, evenly."""
    if len(cells) <= _SAMPLE:
        return cells
    return cells.take(pa.array(np.linspace(0, len(cells) - 1, _SAMPLE).astype(int)))


def _pivot(years: np.ndarray) -> int:
    """From which one on the ``years`` of two digits of a column are of the last century: one that tears no neighbours apart, as
    69 would 68 and 69. Of several the least that lets the years of this century end today or later; 0: there are none.
    """
    there = np.bincount(years, minlength=100)[:100] > 0

    def room(pivot: int) -> int:
        """How many years next to the border are not there."""
        around = np.roll(there, -pivot)
        return int(around.argmax() + around[::-1].argmax()) if around.any() else 0

    return max([*range(_FIRST_PIVOT, _LAST_PIVOT), 0], key=room)


def _dates(
    part: dict[str, pa.Array], year: np.ndarray, month: np.ndarray, day: np.ndarray, good: np.ndarray
) -> np.ndarray:
    good = good & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    first = months.astype("datetime64[M]")
    length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
    micros, in_day = _clock(part)
    good &= (day <= length) & in_day
    stamps = first.astype("datetime64[D]").astype("datetime64[us]") + (np.where(good, day, 1) - 1) * np.timedelta64(
        1, "D"
    )
    return np.where(good, stamps + micros.astype("timedelta64[us]"), np.datetime64("NaT", "us"))


def _weeks(part: dict[str, pa.Array], year: np.ndarray) -> np.ndarray:
    """By ISO 8601: the first week of a year is that of January 4, and weeks begin on Mondays, as days of 1970 on Thursdays."""
    week, day = _numbers(part["week"]), _numbers(part["weekday"], 1) if "weekday" in part else np.ones(1, np.int64)
    fourth = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64) + 3
    days = fourth - (fourth + 3) % 7 + 7 * (week - 1) + day - 1
    good = (week >= 1) & (week <= 53)
    return np.where(good, days.astype("datetime64[D]").astype("datetime64[us]"), np.datetime64("NaT", "us"))


def _clock(part: dict[str, pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since midnight in UTC, and whether there is such a time."""
    count = len(next(iter(part.values())))
    hour, minute, second = (
        _numbers(part[key], 0) if key in part else np.zeros(count, np.int64) for key in ("hour", "minute", "second")
    )
    half, fraction, zone = (
        _each(part[key], number) if key in part else np.zeros(count, np.int64)
        for key, number in (("half", _half), ("part", _micros), ("zone", _minutes_east))
    )
    good = (hour <= np.where(half == 0, 23, 12)) & (minute <= 59) & (second <= 59) & (zone != _NOWHERE)
    hour = np.where(half == 0, hour, hour % 12 + 12 * (half == 2))
    return ((hour * 60 + minute - zone) * 60 + second) * 1_000_000 + fraction, good


def _each(texts: pa.Array, number: Callable[[str], int]) -> np.ndarray:
    """(n,) int64, made once of each different text."""
    found = call("dictionary_encode", call("coalesce", texts, ""))
    numbers = np.array([number(text) for text in found.dictionary.to_pylist()], dtype=np.int64)
    return numbers[found.indices.to_numpy(zero_copy_only=False)] if len(numbers) else np.zeros(0, np.int64)


def _half(text: str) -> int:
    """0 where a clock has 24 hours; 1 for the morning, 2 for the afternoon."""
    return {"": 0, "a": 1, "p": 2}[text.strip().lower()[:1]]


def _micros(text: str) -> int:
    return int(text[:6].ljust(6, "0")) if text else 0


def _minutes_east(zone: str) -> int:
    found = offset_of(zone)
    return _NOWHERE if found is None else found


def _month(part: dict[str, pa.Array]) -> np.ndarray:
    if "quarter" in part:
        given = (
            call("if_else", call("equal", part["quarter"], ""), part["nth"], part["quarter"]) if "nth" in part else None
        )
        return 3 * _numbers(part["quarter"] if given is None else given) - 2
    return _numbers(part["month"]) if "month" in part else _each(part["name"], month_called)


def _equal(one: pa.Array, other: pa.Array | str) -> np.ndarray:
    return np.asarray(call("equal", one, other).to_numpy(zero_copy_only=False), dtype=bool)


def _numbers(texts: pa.Array, empty: int = 0) -> np.ndarray:
    filled = call("if_else", call("equal", texts, ""), str(empty), texts)
    return np.asarray(
        call("coalesce", filled, str(empty)).cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64
    )
