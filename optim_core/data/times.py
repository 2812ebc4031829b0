"""Columns that say when: a table in the order of time is seldom meant to be shuffled, whatever its times are written like."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from optim_core.data.columns import Column

_YEARS = (1500, 2200)
# 1980 to 2050 in seconds since 1970; the same in thousandths, millionths and billionths of a second.
_SECONDS, _FINER = (315_532_800, 2_524_608_000), (1, 1e3, 1e6, 1e9)
# 1990 to 2035 in days since 1900, as spreadsheets write them. Counters lie there, too, so every day must be whole.
_DAYS = (32_874, 49_310)
# YYYYMM and YYYYQ: the base, and the last part of a year.
_PARTS = ((100, 12), (10, 4))
_NAME = re.compile(
    r"(?:^|_)(t|ts|time|times|timestamp|datetime|date|day|days|week|weeks|month|months|year|years|quarter|hour|hours|hr|minute"
    r"|minutes|min|mins|second|seconds|sec|secs|ms|msec|millis|milliseconds|us|ns|epoch|elapsed|unix|period|zeit|datum|tag|tage"
    r"|monat|jahr|stunde|uhrzeit|fecha|hora|jour|mois|annee|temps|heure)(?:_|$)"
)
# What is named so has numbers for names.
_NO_TIME = re.compile(
    r"(?:^|_)(id|uuid|key|no|nr|num|number|code|zip|zipcode|postcode|postal|plz|phone|ean|sku)(?:_|$)"
)
# A column of fewer different moments says little about the order of rows.
_FEWEST = 5
# The rank correlation with the rows' numbers where they are in order but for some.
_ORDERED = 0.9
# Shuffled rows go back in time in half of all steps; so few do where they are in the order of time within each of some groups.
_BACK = 0.2


def are_times(name: str, values: np.ndarray) -> bool:
    """Whether (n,) numbers, NaN for gaps, are moments: by their range, or by the name of the column."""
    present = values[~np.isnan(values)]
    if not present.size:
        return False
    low, high = float(present.min()), float(present.max())
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", "_", name).lower()
    if _NAME.search(words) or _NO_TIME.search(words):
        return _NAME.search(words) is not None
    if any(_SECONDS[0] * unit <= low and high <= _SECONDS[1] * unit for unit in _FINER):
        return True
    if (present != np.floor(present)).any():
        return False
    if (_YEARS[0] <= low and high <= _YEARS[1]) or (_DAYS[0] <= low and high <= _DAYS[1]):
        return True
    return any(_are_parts(present, base, last) for base, last in _PARTS)


def _are_parts(values: np.ndarray, base: int, last: int) -> bool:
    """Whether whole numbers are a year and a part of it, and of more than one year."""
    years, parts = values // base, values % base
    in_range = _YEARS[0] <= years.min() < years.max() <= _YEARS[1]
    return bool(in_range and (parts >= 1).all() and (parts <= last).all())


def moments_in(column: Column) -> np.ndarray | None:
    """(n,) when each row is, in the column's own unit; None where the column does not say."""
    if column.numbers is None:
        return None
    first = column.numbers[:, 0]
    return first if column.role == "date" or (column.role == "number" and are_times(column.name, first)) else None


def in_order(moments: np.ndarray) -> bool:
    """Whether (n,) moments, NaN for gaps, order the rows, forwards or backwards, all in all."""
    ranks = pd.Series(moments[~np.isnan(moments)]).rank().to_numpy()
    if len(np.unique(ranks)) < _FEWEST:
        return False
    return abs(float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])) >= _ORDERED


def in_runs(moments: np.ndarray) -> bool:
    """Whether the rows lie in series one upon another, each in the order of (n,) moments, as those of several shops do."""
    present = moments[~np.isnan(moments)]
    steps = np.diff(present)
    forwards, backwards = int((steps > 0).sum()), int((steps < 0).sum())
    moves = forwards + backwards
    return moves >= _FEWEST - 1 and min(forwards, backwards) <= _BACK * moves and len(np.unique(present)) >= _FEWEST
