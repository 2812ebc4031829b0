"""What a raw column means: a number, a flag, a date or a category; or why it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pandas.api import types

from optim_core.data.categories import Categories
from optim_core.data.compact_dates import compact_dates
from optim_core.data.dates import read_dates
from optim_core.data.free_text import WIDTH, hashed
from optim_core.data.limits import MAX_LEVELS, MAX_MAGNITUDE
from optim_core.data.mixed import alike_but_for_case, read_clock, read_pairs, why_coded, why_codes, why_mixed
from optim_core.data.notation import Notation, Numbers, as_text, is_textual, read_numbers
from optim_core.data.sentinels import maybe_codes, without_codes, without_days
from optim_core.data.text import plural, show
from optim_core.data.texts import Texts
from optim_core.data.unread_times import unread_times
from optim_core.data.words import merged_sentence, no_values, with_classes, words_lost

_FLAGS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
_TRUE = {"true", "yes", "y", "t", "on"}
_FREE_TEXT_SHARE = 0.5
# Many different texts of so many words on average are sentences, not names of categories.
_WORDS, _LOOKED_AT = 3, 1_000
_MICROS_PER_DAY, _DAY_H = 86_400_000_000, 24


@dataclass(frozen=True)
class Column:
    """One usable column. ``role`` number, flag, date, category or text.

    ``numbers``: (n, p) float64 with NaN for missing, for all but categories, which have ``levels``. ``clock``: the first of
    the numbers are hours that were written as times of day or durations.
    """

    name: str
    role: str
    numbers: np.ndarray | None = None
    levels: Categories | None = None
    note: str = ""
    warning: str = ""
    clock: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A column that is not used, with the reason as the end of a sentence. ``missing``: rows without a value. ``column``: what
    it would be. ``warning``: what to say besides.
    """

    name: str
    reason: str
    missing: int = 0
    column: Column | None = None
    warning: str = ""


def understand(name: str, raw: pd.Series, *, chosen: bool, notation: Notation) -> Column | LeftOut:
    """Decide the role of a column. ``chosen`` columns are kept even when they look like identifiers."""
    if types.is_datetime64_any_dtype(raw):
        return _date(name, raw, [], notation)
    if not is_textual(raw):
        kind = "flag" if types.is_bool_dtype(raw) else "number"
        plain = raw.dtype in (np.float64, np.int64)
        values = raw.to_numpy(np.float64) if plain else raw.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        coded = why_coded(values) if kind == "number" else None
        if coded is not None:
            whole = raw.astype("Int64").astype("str") if types.is_integer_dtype(raw) else pd.Series(_written(values))
            return _codes(name, Texts.of(whole.where(raw.notna())), coded, chosen)
        days = compact_dates(values) if kind == "number" else None
        return _number(name, values, kind, notation) if days is None else _date(name, days, [], notation)
    text = as_text(raw, notation.missing)
    if not len(text.distinct):
        return LeftOut(name, f"it {'has no values' if notation.missing.listed else no_values(raw, text.gaps)}")
    lowered = [value.lower() for value in text.distinct[:3]]
    if len(lowered) <= 2 and any({*lowered} <= flags for flags in _FLAGS):
        return _number(name, text.spread([value in _TRUE for value in lowered], np.nan), "flag", notation)
    coded = why_codes(text)
    if coded is not None:
        return _codes(name, text, coded, chosen)
    numbers = read_numbers(name, text, notation)
    if numbers is not None:
        days = compact_dates(numbers.values)
        if days is not None:
            return _date(name, days, numbers.notes, notation)
        return _number(name, numbers.values, "number", notation, numbers.notes)
    dates = read_dates(name, text)
    if dates is not None:
        return _date(name, dates.stamps, dates.notes, notation)
    hours = read_clock(name, text)
    if hours is not None:
        return _hours(name, hours, notation)
    pairs = read_pairs(name, text)
    if pairs is not None:
        return Column(name, "number", numbers=pairs[0], note=" ".join(pairs[1]))
    mixed = why_mixed(name, text, notation)
    text, classes = with_classes(raw, text, notation.missing)
    merged = "" if notation.missing.listed else merged_sentence(name, words_lost(raw, text.gaps), classes)
    alike = alike_but_for_case(name, sorted(text.distinct)) if len(text.distinct) <= MAX_LEVELS else ""
    return _category(name, text, chosen, [note for note in (mixed, merged, alike) if note])


def _codes(name: str, text: Texts, why: str, chosen: bool) -> Column | LeftOut:
    note = f"The numbers of {show(name)} are taken for codes: {why}."
    return _category(name, text, chosen, [note])


def _written(values: np.ndarray) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.0f}" for value in values]


def _number(
    name: str, values: np.ndarray, kind: str, notation: Notation, notes: Sequence[str] = ()
) -> Column | LeftOut:
    wild = ~np.isnan(values) & ~(np.abs(values) <= MAX_MAGNITUDE)
    if wild.any():
        count = plural(int(wild.sum()), "value")
        notes = [*notes, f"In {show(name)} {count} beyond any use (infinite or over 1e30) count as missing."]
        values = np.where(wild, np.nan, values)
    warning = ""
    if kind == "number":
        values, warning = without_codes(name, values, notation.missing)
    present = values[~np.isnan(values)]
    if present.size == 0:
        return LeftOut(name, "it has no values")
    if kind == "number" and not warning:
        warning = maybe_codes(name, values, notation.missing)
    if present.min() == present.max() and present.size == values.size:
        return LeftOut(name, "it is constant")
    return Column(name, kind, numbers=values[:, None], note=" ".join(notes), warning=warning)


def _date(name: str, stamps: pd.Series, notes: list[str], notation: Notation) -> Column | LeftOut:
    stamps, warning = without_days(name, stamps, notation.missing)
    present = stamps.dropna()
    if present.empty:
        return LeftOut(name, "it has no values")
    if present.nunique() == 1 and len(present) == len(stamps):
        return LeftOut(name, "it is constant")
    micros = pd.Series(stamps.to_numpy("datetime64[us]").astype(np.int64))
    days = (micros / _MICROS_PER_DAY).where(stamps.notna().to_numpy())
    parts = [days, *_circle((stamps.dt.month - 1) / 12), *_circle(stamps.dt.day_of_week / 7)]
    said = "days since 1970 and positions in the year and in the week"
    if (present != present.dt.normalize()).any():
        parts += _circle((stamps.dt.hour + stamps.dt.minute / 60) / 24)
        said += " and in the day"
    numbers = np.column_stack([part.to_numpy(np.float64, na_value=np.nan) for part in parts])
    note = " ".join([*notes, f"The dates of {show(name)} became {said}."])
    return Column(name, "date", numbers=numbers, note=note, warning=warning)


def _hours(name: str, hours: Numbers, notation: Notation) -> Column | LeftOut:
    of_a_day = np.nanmax(hours.values) <= _DAY_H
    found = _number(name, hours.values, "date" if of_a_day else "number", notation, hours.notes)
    if isinstance(found, LeftOut):
        return found
    if not of_a_day:
        return replace(found, clock=True)
    numbers = np.column_stack([hours.values, *(part.to_numpy() for part in _circle(pd.Series(hours.values / _DAY_H)))])
    said = f"The times of {show(name)} became hours since midnight and a position in the day."
    return replace(found, numbers=numbers, note=f"{found.note} {said}", clock=True)


def _circle(phase: pd.Series) -> list[pd.Series]:
    # December is next to January: two coordinates on a circle say so, one number does not.
    return [pd.Series(np.sin(2 * np.pi * phase)), pd.Series(np.cos(2 * np.pi * phase))]


def _category(name: str, text: Texts, chosen: bool, notes: list[str]) -> Column | LeftOut:
    distinct, present = len(text.distinct), int(text.counts.sum())
    if distinct == 1 and present == len(text.codes):
        return LeftOut(name, "it is constant")
    different = distinct > _FREE_TEXT_SHARE * present
    warning = unread_times(name, text) if different else ""
    if distinct > MAX_LEVELS and different:
        what = f"its {distinct:,} different texts look like names or free text"
        if not chosen:
            said = "; ".join([what, *(note[0].lower() + note[1:].rstrip(".") for note in notes)])
            return LeftOut(name, f"{said} (name it under features to keep it)", warning=warning)
        some = pd.Series(text.distinct[text.present(_LOOKED_AT)], dtype="str")
        if some.str.count(r"\s+").mean() >= _WORDS - 1:
            notes = [*notes, f"The words of {show(name)} were hashed into {WIDTH} numbers."]
            return Column(name, "text", numbers=hashed(text), note=" ".join(notes))
    return Column(name, "category", levels=Categories.of(text), note=" ".join(notes), warning=warning)
