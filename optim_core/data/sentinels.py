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
