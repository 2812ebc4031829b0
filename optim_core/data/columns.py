"""What a raw column means: a number, a flag, a date or a category; or why it is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api import types

from optim_core.data.limits import MAX_LEVELS, MAX_MAGNITUDE
from optim_core.data.text import plural, show, show_some

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "-", "nil", "<na>", "nat"})
_MISSING_TEXTS = pa.array(sorted(MISSING), type=pa.large_string())
_FLAGS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
_TRUE = {"true", "yes", "y", "t", "on"}
_DATE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d{2}.*)?$")
_DATE_FORMATS = ("ISO8601", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y")
_IDENTIFIER = re.compile(r"(^|[_\s])(id|uuid|guid|index|key|rownames?|unnamed: 0|column 1)$|[a-z]I[dD]$", re.IGNORECASE)
_FREE_TEXT_SHARE = 0.5
_MICROS_PER_DAY = 86_400_000_000
_STRAY_SHARE = 0.05


@dataclass(frozen=True)
class Column:
    """One usable column. ``role`` number, flag, date or category.

    ``numbers``: (n, p) float64 with NaN for missing, for all but categories; ``levels``: (n,) str or None.
    """

    name: str
    role: str
    numbers: np.ndarray | None = None
    levels: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A column that is not used, with the reason as the end of a sentence."""

    name: str
    reason: str


def as_text(raw: pd.Series) -> pd.Series:
    """Stripped strings with real missing values instead of ``NA``, ``?``, empty, …"""
    text = raw.astype("str").str.strip()
    return text.mask(text.str.lower().isin(MISSING).fillna(True).astype(bool))


def is_textual(raw: pd.Series) -> bool:
    """Whether the values are strings that still have to be understood."""
    return not (types.is_numeric_dtype(raw) or types.is_bool_dtype(raw) or types.is_datetime64_any_dtype(raw))


def parse_numbers(text: pd.Series, decimal_comma: bool) -> np.ndarray:
    """(n,) float64; NaN where the text is missing or no number. ``1,5`` counts with ``decimal_comma``."""
    if decimal_comma:
        text = text.str.replace(r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
    plain = text.mask(~text.str.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", case=False)
                      .fillna(False).astype(bool))  # fmt: skip
    return np.asarray(pd.Series(pd.to_numeric(plain.astype(object), errors="coerce")), dtype=np.float64)


def understand(name: str, raw: pd.Series, *, chosen: bool, decimal_comma: bool) -> Column | LeftOut:
    """Decide the role of a column. ``chosen`` columns are kept even when they look like identifiers."""
    if types.is_datetime64_any_dtype(raw):
        return _date(name, raw, "")
    if not is_textual(raw):
        kind = "flag" if types.is_bool_dtype(raw) else "number"
        return _number(name, raw.astype("Float64").to_numpy(np.float64, na_value=np.nan), chosen, kind)
    plain = _all_numbers(raw)
    if plain is not None:
        return _number(name, plain, chosen, "number")
    text = as_text(raw)
    present = text.dropna()
    if present.empty:
        return LeftOut(name, "it has no values")
    distinct = present.unique()
    lowered = {value.lower() for value in distinct[:10]}
    if len(distinct) <= 2 and any(lowered <= flags for flags in _FLAGS):
        flags = text.str.lower().isin(_TRUE).to_numpy(np.float64)
        return _number(name, np.where(text.isna(), np.nan, flags), chosen, "flag")
    numbers = parse_numbers(text, decimal_comma)
    stray = text.notna().to_numpy() & np.isnan(numbers)
    if not stray.any():
        return _number(name, numbers, chosen, "number")
    odd = pd.unique(text[stray])
    if stray.sum() <= _STRAY_SHARE * len(present) and len(odd) <= 5 and len(distinct) > 20:
        count = plural(int(stray.sum()), "value")
        note = f"In {show(name)} {count} that are no numbers ({show_some(odd)}) count as missing."
        return _number(name, numbers, chosen, "number", note)
    dates = parse_dates(present)
    if dates is not None:
        stamps, pattern = dates
        return _date(name, stamps.reindex(text.index), pattern)
    return _category(name, text, len(distinct), len(present), chosen)


def _all_numbers(raw: pd.Series) -> np.ndarray | None:
    """(n,) float64 where every text is a finite number as it stands, or missing (NaN); None where one is neither, or all are
    missing: most columns of most tables, and a hundred times faster than looking closer.
    """
    try:
        texts = pa.array(raw, type=pa.large_string())
        lowered = pc.call_function("utf8_lower", [texts])
        missing = pc.call_function("is_in", [lowered], pc.SetLookupOptions(value_set=_MISSING_TEXTS))
        numbers = pc.cast(pc.call_function("if_else", [missing, None, texts]), pa.float64())
    except pa.ArrowException:
        return None
    if numbers.null_count == len(numbers):
        return None
    values = numbers.to_numpy(zero_copy_only=False)
    # Words for infinity have a meaning of their own.
    return None if np.isinf(values).any() else values


def parse_dates(present: pd.Series) -> tuple[pd.Series, str] | None:
    """Timestamps and their format when every value is a date in one format, else None."""
    if not present.head(50).str.match(_DATE).all():
        return None
    for pattern in _DATE_FORMATS:
        try:
            stamps = pd.to_datetime(present, format=pattern, errors="coerce", utc=True)
        except (ValueError, OverflowError, TypeError):
            continue
        if stamps.notna().all():
            return stamps.dt.tz_localize(None), pattern
    return None


def _number(name: str, values: np.ndarray, chosen: bool, kind: str, note: str = "") -> Column | LeftOut:
    wild = ~np.isnan(values) & ~(np.abs(values) <= MAX_MAGNITUDE)
    if wild.any():
        count = plural(int(wild.sum()), "value")
        note = f"In {show(name)} {count} beyond any use (infinite or over 1e30) count as missing."
        values = np.where(wild, np.nan, values)
    present = values[~np.isnan(values)]
    if present.size == 0:
        return LeftOut(name, "it has no values")
    if present.min() == present.max() and present.size == values.size:
        return LeftOut(name, "it is constant")
    if not chosen and kind == "number" and _IDENTIFIER.search(name) and _all_different_integers(present):
        return LeftOut(name, "it looks like an identifier (name it under features to keep it)")
    return Column(name, kind, numbers=values[:, None], note=note)


def _all_different_integers(values: np.ndarray) -> bool:
    return bool((values == np.floor(values)).all()) and np.unique(values).size == values.size


def _date(name: str, stamps: pd.Series, pattern: str) -> Column | LeftOut:
    present = stamps.dropna()
    if present.empty:
        return LeftOut(name, "it has no values")
    if present.nunique() == 1:
        return LeftOut(name, "it is constant")
    micros = pd.Series(stamps.to_numpy("datetime64[us]").astype(np.int64))
    days = (micros / _MICROS_PER_DAY).where(stamps.notna().to_numpy())
    parts = [days, *_circle((stamps.dt.month - 1) / 12), *_circle(stamps.dt.day_of_week / 7)]
    said = "days since 1970 and positions in the year and in the week"
    if (present != present.dt.normalize()).any():
        parts += _circle((stamps.dt.hour + stamps.dt.minute / 60) / 24)
        said += " and in the day"
    numbers = np.column_stack([part.to_numpy(np.float64, na_value=np.nan) for part in parts])
    order = {"%m/%d/%Y": ", month first", "%m-%d-%Y": ", month first", "%d/%m/%Y": ", day first"}.get(pattern, "")
    return Column(name, "date", numbers=numbers, note=f"The dates of {show(name)}{order} became {said}.")


def _circle(phase: pd.Series) -> list[pd.Series]:
    # December is next to January: two coordinates on a circle say so, one number does not.
    return [pd.Series(np.sin(2 * np.pi * phase)), pd.Series(np.cos(2 * np.pi * phase))]


def _category(name: str, text: pd.Series, distinct: int, present: int, chosen: bool) -> Column | LeftOut:
    if distinct == 1 and present == len(text):
        return LeftOut(name, "it is constant")
    if distinct > MAX_LEVELS and distinct > _FREE_TEXT_SHARE * present and not chosen:
        return LeftOut(name, f"its {distinct:,} different texts look like names or free text")
    if not chosen and distinct == present and _IDENTIFIER.search(name):
        return LeftOut(name, "it looks like an identifier (name it under features to keep it)")
    note = ""
    if distinct > MAX_LEVELS:
        note = f"{show(name)} has {distinct:,} categories; the {MAX_LEVELS} most common are kept, the others share one."
    return Column(name, "category", levels=text.astype(object).where(text.notna(), None).to_numpy(object), note=note)
