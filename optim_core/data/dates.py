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

from optim_core.data.notation import FEWEST, call, few, lost_sentence
from optim_core.data.text import show
from optim_core.data.texts import Texts

# How names of months begin in English, German, French, Spanish, Italian, Portuguese and Dutch, and their longer forms.
# A library of all languages (Babel) is ten megabytes.
_MONTHS = (
    ("jan", "jän", "janv", "ene", "gen"), ("feb", "fev", "fév", "févr"), ("mar", "mär", "mae", "mrz", "mrt", "maa"),
    ("apr", "avr", "abr"), ("may", "mai", "mei", "mag"), ("jun", "juin", "giu"), ("jul", "juil", "lug"),
    ("aug", "aoû", "aou", "ago"), ("sep", "set"), ("oct", "okt", "ott", "out"), ("nov",), ("dec", "dez", "déc", "dic"),
)  # fmt: skip
_MONTH_OF = {start: month for month, starts in enumerate(_MONTHS, 1) for start in starts}
_FULL = {
    "january", "february", "march", "april", "june", "july", "august", "sept", "september", "october", "november", "december",
    "januar", "jänner", "februar", "märz", "maerz", "juni", "juli", "oktober", "dezember", "janvier", "février", "fevrier",
    "mars", "avril", "juin", "juil", "juillet", "août", "aout", "septembre", "octobre", "novembre", "décembre", "decembre",
    "janv", "févr", "fevr", "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "setiembre",
    "octubre", "noviembre", "diciembre", "gennaio", "febbraio", "aprile", "maggio", "giugno", "luglio", "settembre", "ottobre",
    "dicembre", "janeiro", "fevereiro", "março", "marco", "maio", "junho", "julho", "setembro", "outubro",
    "novembro", "dezembro", "januari", "februari", "maart", "augustus",
}  # fmt: skip
# A range, as the class of all letters takes 15 milliseconds to compile each time that it is used.
_NAME = r"(?P<name>[a-zà-ÿ]{3,10})\.?"
_WEEK = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? +)?"
_CLOCK = (
    r"(?:(?:T|,? +)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<part>\d{1,9}))?)?"
    r"(?P<half> ?[ap]m)?(?P<zone> ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)?"
)
_SHAPES = tuple(
    rf"(?i)^{_WEEK}{date}{_CLOCK}$"
    for date in (
        r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?:(?P<again>[-/.])(?P<day>\d{1,2}))?",
        r"(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})(?P<again>[-/.])(?P<year>\d{4}|\d{2})",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-/. ]{{0,2}}{_NAME}[-/, ]{{0,2}}(?P<year>\d{{4}}|\d{{2}})",
        rf"{_NAME}[- ]{{1,2}}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:, ?| |-)(?P<year>\d{{4}})",
        rf"{_NAME}[- ,]{{1,2}}(?P<year>\d{{4}})",
        r"(?P<year>\d{4})[- ]?Q(?P<quarter>[1-4])",
    )
)
# Where this century's years of two digits may end: not before the year of writing. No clock: the same file has to mean the
# same next year.
_FIRST_PIVOT, _LAST_PIVOT = 27, 41
# Between them nobody takes such years for others.
_POSIX_FROM, _POSIX_TO = np.datetime64("1969"), np.datetime64(f"20{_FIRST_PIVOT}")
_SAMPLE = 50


@dataclass(frozen=True)
class Dates:
    """``stamps``: as the column, in UTC without a zone, NaT where there is none. ``notes``: what was decided, in sentences."""

    stamps: pd.Series
    notes: list[str]


def read_dates(name: str, text: Texts) -> Dates | None:
    """The column ``name`` as dates; None where it is none of dates. Few strays count as missing, as in numbers.

    Read are ISO 8601 with times and zones, 31.12.2020, 12/31/20, 31 Dec 2020, Dec 31, 2020, Dec 2020, 2020Q4, each with a time.
    """
    cells = text.cells
    sample = (
        cells.take(pa.array(np.unique(np.linspace(0, len(cells) - 1, _SAMPLE).astype(int)))) if len(cells) else cells
    )
    if not len(cells) or all(np.isnat(stamps).mean() > 0.5 for stamps in _stamps(sample)[:2]):
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
    matched, years = list[tuple[np.ndarray, dict[str, pa.Array]]](), np.zeros(len(cells), dtype=np.int64)
    for pattern in _SHAPES:
        found = call("extract_regex", plain, pattern=pattern)
        places = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        if not len(places):
            continue
        part = {
            found.type.field(i).name: call("struct_field", found, indices=[i]).take(pa.array(places))
            for i in range(found.type.num_fields)
        }
        matched.append((places, part))
        years[places] = _numbers(part["year"])
        short[places] = np.asarray(call("utf8_length", part["year"]).to_numpy(zero_copy_only=False)) == 2
        if len(places) == len(cells):
            break  # no cell has two shapes
    years[short] += np.where(years[short] < _pivot(years[short]), 2000, 1900)
    for places, part in matched:
        year = years[places]
        same = _equal(part["mark"], part["again"]) if "again" in part else np.ones(len(places), bool)
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


def _clock(part: dict[str, pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since midnight in UTC, and whether there is such a time."""
    hour, minute, second = (_numbers(part[key], 0) for key in ("hour", "minute", "second"))
    half = _each(part["half"], lambda text: {"": 0, "am": 1, "pm": 2}[text.strip().lower()])
    good = (hour <= np.where(half == 0, 23, 12)) & (minute <= 59) & (second <= 59)
    hour = np.where(half == 0, hour, hour % 12 + 12 * (half == 2))
    fraction = _each(part["part"], lambda text: int(text[:6].ljust(6, "0")) if text else 0)
    zone = _each(part["zone"], lambda text: _offset(text.strip()))
    return ((hour * 60 + minute - zone) * 60 + second) * 1_000_000 + fraction, good


def _each(texts: pa.Array, number: Callable[[str], int]) -> np.ndarray:
    """(n,) int64, made once of each different text."""
    found = call("dictionary_encode", call("coalesce", texts, ""))
    numbers = np.array([number(text) for text in found.dictionary.to_pylist()], dtype=np.int64)
    return numbers[found.indices.to_numpy(zero_copy_only=False)] if len(numbers) else np.zeros(0, np.int64)


def _offset(zone: str) -> int:
    """Minutes east of Greenwich."""
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 60 + int(digits[2:]))


def _month(part: dict[str, pa.Array]) -> np.ndarray:
    if "quarter" in part:
        return 3 * _numbers(part["quarter"]) - 2
    return _numbers(part["month"]) if "month" in part else _named(part["name"])


def compact_dates(values: np.ndarray) -> pd.Series | None:
    """Numbers such as 20200131 as dates, NaT where there is none; None where one is no day of the years 1800 to 2099, or
    there are too few different ones to tell.
    """
    present = values[~np.isnan(values)]
    if not present.size or present.min() < 1800_01_01 or present.max() > 2099_12_31 or (present % 1 != 0).any():
        return None
    distinct = np.unique(present).astype(np.int64)
    year, month, day = distinct // 10_000, distinct // 100 % 100, distinct % 100
    if distinct.size < FEWEST or not ((month >= 1) & (month <= 12) & (day >= 1)).all():
        return None
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    stamps = first.astype("datetime64[D]") + (day - 1)
    if (stamps.astype("datetime64[M]") != first).any():
        return None
    places = np.searchsorted(distinct, np.where(np.isnan(values), distinct[0], values).astype(np.int64))
    return pd.Series(np.where(np.isnan(values), np.datetime64("NaT", "us"), stamps.astype("datetime64[us]")[places]))


def _named(names: pa.Array) -> np.ndarray:
    return _each(names, _month_called)


def _month_called(name: str) -> int:
    """1 to 12; 0 for what is no month."""
    lower = name.lower()
    known = lower in _FULL or lower in _MONTH_OF
    return _MONTH_OF.get(lower[:4], _MONTH_OF.get(lower[:3], 0)) if known else 0


def _equal(one: pa.Array, other: pa.Array | str) -> np.ndarray:
    return np.asarray(call("equal", one, other).to_numpy(zero_copy_only=False), dtype=bool)


def _numbers(texts: pa.Array, empty: int = 0) -> np.ndarray:
    filled = call("if_else", call("equal", texts, ""), str(empty), texts)
    return np.asarray(
        call("coalesce", filled, str(empty)).cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64
    )
