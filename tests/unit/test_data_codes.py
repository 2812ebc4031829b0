"""Codes for no value: those far outside are gaps aloud, those that may be values are said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optim_core.data import columns_of
from tests.unit.test_data_understanding import RNG, VALUES, N, said, understood


@pytest.mark.parametrize("code", [-999, 9999, -9999, -99, 99999])
def test_a_code_far_outside_that_repeats_is_a_gap_unless_gaps_are_named(tmp_path: Path, code: int) -> None:
    a = RNG.integers(0, 40, N)
    a[::9] = code
    table = {"y": RNG.normal(size=N), "a": a}
    found = understood(tmp_path, table)
    (column,) = columns_of(found)
    assert column.missing == len(a[::9])
    assert said(found, "Warning sentinel", f"'{code}'", "(0 to 39)", "--na NA")
    kept = understood(tmp_path, table, dataset={"na": ["NA"]})
    assert columns_of(kept)[0].missing == 0
    assert not said(kept, "sentinel")


def test_codes_of_a_target_and_of_dates(tmp_path: Path) -> None:
    y, days = (
        RNG.normal(size=N),
        RNG.permutation(pd.date_range("2023-01-01", periods=N).strftime("%Y-%m-%d")).astype(object),
    )
    y[:9] = -999
    days[20:30], days[40] = "1900-01-01", "9999-12-31"
    found = understood(tmp_path, {"y": y, "day": days, "a": VALUES})
    assert len(found.target.values) == N - 9
    assert said(found, "sentinel", "'y' '-999'")
    assert said(found, "sentinel", "'day' '1900-01-01', '9999-12-31'", "11 rows")
    assert {one.name: one.missing for one in columns_of(found)} == {"day": 11, "a": 0}


@pytest.mark.parametrize(
    "values",
    [
        np.r_[np.arange(N - 5), [999] * 5] * 1.0 * 10,
        np.r_[RNG.integers(900, 998, N - 5), [999] * 5],
        np.r_[RNG.integers(0, 40, N - 1), 9999],
        np.r_[RNG.integers(0, 3, N - 5), [99] * 5],
        np.exp(4 * VALUES).round(2),
    ],
)
def test_what_may_be_a_value_stays(tmp_path: Path, values: np.ndarray) -> None:
    assert not said(understood(tmp_path, {"y": RNG.normal(size=N), "a": values}), "sentinel")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.where(np.arange(N) % 9 == 0, 9, 1 + np.arange(N) % 5), "9"),
        (np.where(np.arange(N) % 9 == 0, 8 + np.arange(N) % 2, np.arange(N) % 5), "8"),
        (np.where(np.arange(N) % 9 == 0, -1, RNG.integers(18, 90, N)), "-1"),
        (np.where(np.arange(N) % 9 == 0, -1, RNG.exponential(size=N)), "-1"),
        (np.arange(N) % 10, ""),
        (1 + np.arange(N) % 9, ""),
        (np.where(np.arange(N) == 9, 9, np.arange(N) % 5), ""),
        (np.arange(N) % 3 - 1, ""),
        (np.where(np.arange(N) % 9 == 0, 9, 2 * (np.arange(N) % 4)), ""),
        (RNG.integers(-1, 9, N) - 0.0 - (np.arange(N) % 7 == 0), ""),
        (RNG.poisson(1.5, N), ""),
    ],
)
def test_an_answer_that_may_be_none_is_said_and_stays(tmp_path: Path, values: np.ndarray, code: str) -> None:
    found = understood(tmp_path, {"y": RNG.normal(size=N), "a": values})
    assert said(found, "Warning maybe_sentinel: 'a'", f"--na {code}") is bool(code)
    assert columns_of(found)[0].missing == 0
    if code:
        assert not said(
            understood(tmp_path, {"y": RNG.normal(size=N), "a": values}, dataset={"na": [code]}), "maybe_sentinel"
        )


def test_births_long_ago_are_no_codes(tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("1900-01-01", periods=N, freq="90D")).sample(frac=1, random_state=0)
    assert not said(understood(tmp_path, {"y": VALUES, "born": days.dt.strftime("%Y-%m-%d").to_numpy()}), "sentinel")
