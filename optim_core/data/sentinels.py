"""Numbers and dates that stand for no value: -999 among tens, 9999-12-31 among days of this year."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optim_core.data.notation import Missing
from optim_core.data.text import plural, show, show_some

_CODES = np.array([sign * (10**digits - 1) for digits in range(2, 9) for sign in (1, -1)], dtype=np.float64)
_DAYS = np.array(
    ["0001-01-01", "1753-01-01", "1800-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1970-01-01", "2099-12-31",
     "2262-04-11", "2999-12-31", "3000-01-01", "9999-01-01", "9999-12-31"], dtype="datetime64[D]",
)  # fmt: skip
# Of fewer other values it may be one more.
_FEWEST_OTHERS, _FEWEST_ROWS = 5, 2
# Answers to questions on a scale that are none; a scale has so many steps at least.
_ANSWERS, _FEWEST_STEPS = (8.0, 9.0), 3
# Of so many different values a sign is none, and so many rows, and such a share of them, are no strays.
_MANY_OTHERS, _FEWEST_CODED, _OFTEN_CODED = 10, 5, 0.01
# So many times as often as other days is no coincidence.
_OFTEN = 10
# Farther from the median than this, in usual distances from it, says nothing of where values lie. See ``tails``.
_WILD = 1e4


def codes_in(values: np.ndarray, missing: Missing, others: int = _FEWEST_OTHERS, least: int = 99) -> np.ndarray:
    """Of (n,) numbers, NaN for gaps, those of 99, 999, … and -99, … that repeat and are farther from all other values than
    those are from each other. None where a person said what is ``missing``, or fewer than ``others`` different ones are left.
    ``least``: the smallest of such codes.
    """
    nothing = np.zeros(0)
    found, counts = np.unique(values[np.isin(values, _CODES[np.abs(_CODES) >= least])], return_counts=True)
    if missing.listed or not (counts >= _FEWEST_ROWS).any():
        return nothing
    rest = values[~np.isnan(values) & ~np.isin(values, found)]
    if len(pd.unique(rest)) < others:
        return nothing
    apart = np.abs(rest - np.median(rest))
    rest = rest[apart <= _WILD * np.median(apart[apart > 0])]
    low, high = rest.min(), rest.max()
    far = (found > high + (high - low)) | (found < low - (high - low))
    return found[far & (counts >= _FEWEST_ROWS)]


def without_codes(
    name: str, values: np.ndarray, missing: Missing, others: int = _FEWEST_OTHERS, least: int = 99
) -> tuple[np.ndarray, str]:
    """The numbers with NaN for ``codes_in`` them, and a warning; the same and nothing where there are none."""
    codes = codes_in(values, missing, others, least)
    if not len(codes):
        return values, ""
    gone = np.isin(values, codes)
    rest = values[~gone & ~np.isnan(values)]
    between = f"{rest.min():g} to {rest.max():g}"
    return np.where(gone, np.nan, values), _warning(name, [f"{code:g}" for code in codes], int(gone.sum()), between)


def maybe_codes(name: str, values: np.ndarray, missing: Missing) -> str:
    """A warning where (n,) numbers, NaN for gaps, have a frequent value that may be the code of an answer that is none: 8 or 9
    beside a scale of whole numbers, with a step between left out; -1 beside many numbers of which none is below 0. It stays,
    for it may as well be a value. Nothing where a person said what is ``missing``.
    """
    if missing.listed:
        return ""
    # Of a few distinct numbers, or a sign, is told without sorting all.
    low, high = np.nanmin(values), np.nanmax(values)
    codes = list[float]()
    if low == -1:
        rest = values[values != -1]
        rest = rest[~np.isnan(rest)]
        # Of -1, 0, 1 a sign or a step down is one of the values.
        if len(pd.unique(rest)) >= _MANY_OTHERS and rest.min() >= 0:
            codes.append(-1.0)
    elif low >= 0 and high in _ANSWERS:
        found = np.unique(values[~np.isnan(values)])
        scale = found[~np.isin(found, _ANSWERS)]
        whole = len(scale) >= _FEWEST_STEPS and bool((np.diff(scale) == 1).all()) and scale[0] in (0, 1)
        if whole and found[len(scale)] > scale[-1] + 1:
            codes.extend(found[len(scale) :].tolist())
    present = np.count_nonzero(~np.isnan(values))
    often = [code for code in codes if np.count_nonzero(values == code) >= max(_FEWEST_CODED, _OFTEN_CODED * present)]
    if not often:
        return ""
    shown = show_some([f"{code:g}" for code in often])
    rows = plural(int(np.isin(values, often).sum()), "row")
    others = values[~np.isin(values, often)]
    return (
        f"Warning maybe_sentinel: {show(name)} is {shown} in {rows}, beside values of {np.nanmin(others):g} to "
        f"{np.nanmax(others):g}: it is taken as a number. If it means no answer, say --na {often[0]:g}, in a spec dataset: "
        f"{{na: [{', '.join(f'{code:g}' for code in often)}]}}."
    )


def without_days(name: str, stamps: pd.Series, missing: Missing) -> tuple[pd.Series, str]:
    """The same of days: far from all others, or outside of them and far more frequent."""
    days = stamps.to_numpy("datetime64[us]").astype("datetime64[D]")
    known = np.isin(days, _DAYS)
    if missing.listed or not known.any():
        return stamps, ""
    others, counts = np.unique(days[~known & ~np.isnat(days)], return_counts=True)
    if len(others) < _FEWEST_OTHERS:
        return stamps, ""
    low, high = others[0], others[-1]
    gone = []
    for day, count in zip(*np.unique(days[known], return_counts=True), strict=True):
        outside, far = day < low or day > high, day < low - (high - low) or day > high + (high - low)
        if far or (outside and count >= _OFTEN * np.median(counts)):
            gone.append(day)
    if not gone:
        return stamps, ""
    out = np.isin(days, gone)
    return stamps.mask(out), _warning(name, [str(day) for day in gone], int(out.sum()), f"{low} to {high}")


def _warning(name: str, codes: list[str], rows: int, between: str) -> str:
    one = rows == 1
    return (
        f"Warning sentinel: in {show(name)} {show_some(codes)} lie{'s' if len(codes) == 1 else ''} far outside all others "
        f"({between}), so {plural(rows, 'row')} count{'s' if one else ''} as without a value. To keep "
        f"{'it' if len(codes) == 1 else 'them'} say which words mean a gap: --na NA, in a spec dataset: {{na: [NA]}}."
    )
