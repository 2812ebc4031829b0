"""Days and times written as one number: 20200131, 202001312359, 20200131235959."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optim_core.data.notation import FEWEST

# What stands behind the eight digits of a day: hours, minutes, seconds.
_BEHIND = (0, 2, 4, 6)
_FIRST, _LAST = 1800_01_01, 2099_12_31


def compact_dates(values: np.ndarray) -> pd.Series | None:
    """(n,) numbers such as 20200131 as dates, NaT for a gap; None where one is no day of the years 1800 to 2099, or there are
    too few different ones to tell.
    """
    present = values[~np.isnan(values)]
    if not present.size or present.min() < _FIRST or (present % 1 != 0).any():
        return None
    behind = next((n for n in _BEHIND if present.min() >= _FIRST * 10**n and present.max() < (_LAST + 1) * 10**n), None)
    distinct = np.unique(present)
    if behind is None or distinct.size < FEWEST:
        return None
    distinct = distinct.astype(np.int64)
    days, clock = distinct // 10**behind, distinct % 10**behind * 10 ** (6 - behind)
    hour, minute, second = clock // 10_000, clock // 100 % 100, clock % 100
    year, month, day = days // 10_000, days // 100 % 100, days % 100
    if not ((month >= 1) & (month <= 12) & (day >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)).all():
        return None
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    date = first.astype("datetime64[D]") + (day - 1)
    if (date.astype("datetime64[M]") != first).any():
        return None
    micros = ((hour * 60 + minute) * 60 + second) * 1_000_000
    stamps = date.astype("datetime64[us]") + micros.astype("timedelta64[us]")
    places = np.searchsorted(distinct, np.where(np.isnan(values), distinct[0], values).astype(np.int64))
    return pd.Series(np.where(np.isnan(values), np.datetime64("NaT", "us"), stamps[places]))
