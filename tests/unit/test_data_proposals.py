"""Splits that a table asks for: times in any notation, individuals measured again, declared parts; each with what to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.table_support import said, understood, used

N = 200
RNG = np.random.default_rng(4)
I = np.arange(N)  # noqa: E741
HOURS = pd.date_range("2020-01-01", periods=N, freq="h")
DAYS = [f"{day:%Y-%m-%d}" for day in pd.date_range("2020-01-01", periods=N)]
MONTHS = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "de": "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "de full": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}


def swapped(one: int, other: int) -> list[str]:
    days = list(DAYS)
    days[one], days[other] = days[other], days[one]
    return days


def months(names: str) -> list[str]:
    return [f"{names.split()[i % 12]} {1990 + i // 12}" for i in range(N)]


TIMES: dict[str, dict[str, Any]] = {
    "unix": {"x": 1_600_000_000 + 3600 * I + I % 7},
    "unix ms": {"x": (1_600_000_000 + 3600 * I + I % 7) * 1000},
    "unix even": {"x": 1_600_000_000 + 3600 * I},
    "unix back": {"x": (1_600_000_000 + 3600 * I)[::-1]},
    "unix with parts": {"x": 1_600_000_000.25 + 3600 * I},
    "t_ms": {"t_ms": 10 * I},
    "elapsed": {"elapsedSeconds": 0.5 * I},
    "excel": {"x": 43_831 + I},
    "YYYYMM": {"x": (2000 + I // 12) * 100 + I % 12 + 1},
    "YYYYQ": {"x": (1960 + I // 4) * 10 + I % 4 + 1},
    "date and time": {"date": [f"{h:%Y-%m-%d}" for h in HOURS], "time": [f"{h:%H:%M}" for h in HOURS]},
    "clock alone": {"x": [f"{h:%H:%M:%S}" for h in pd.date_range("2020-01-01", periods=N, freq="3min")]},
    "neighbours swapped": {"x": swapped(50, 51)},
    "far ones swapped": {"x": swapped(3, 190)},
    "panel": {"shop": np.repeat(list("abcde"), N // 5), "x": DAYS[: N // 5] * 5},
    **{f"months {name}": {"x": months(text)} for name, text in MONTHS.items()},
}


def table(**columns: Any) -> dict[str, Any]:
    return {"y": RNG.normal(size=N), "a": RNG.normal(size=N), **columns}


@pytest.mark.parametrize("kind", TIMES)
def test_times_that_order_the_rows_are_never_shuffled_in_silence(tmp_path: Path, kind: str) -> None:
    columns = TIMES[kind]
    name = next(name for name in columns if name != "shop")
    found = understood(tmp_path, table(**columns))
    assert said(found, "Warning ordered_in_time", f"--split time:{name}, in a spec split: {{by: time, column: {name}}}")
    assert name in used(found)
    later = understood(tmp_path, table(**columns), split=f"time:{name}")
    assert len(later.splits) == 1
    assert not said(later, "ordered_in_time")
    unlisted = understood(tmp_path, table(**columns), dataset={"features": ["a"]})
    assert said(unlisted, "ordered_in_time", repr(name))


def test_the_order_of_time_is_said_as_it_is(tmp_path: Path) -> None:
    months = [f"{month:%Y-%m}" for month in pd.date_range("2020-01-01", periods=20, freq="MS")]
    found = understood(tmp_path, table(shop=np.repeat(list("abcdefghij"), 20), month=months * 10))
    assert said(found, "Warning ordered_in_time: the rows are series one upon another, each in the order of 'month'")
    # The days within a month lie at random.
    found = understood(tmp_path, table(day=np.array(DAYS)[np.argsort(I // 20 + RNG.uniform(0, 0.9, N))]))
    assert said(found, "Warning ordered_in_time: the rows are in the order of 'day' and were shuffled")


def test_no_split_by_what_gives_the_target_away_or_is_mostly_missing(tmp_path: Path) -> None:
    leak = {"y": np.exp(I / 50), "a": RNG.normal(size=N), "day": DAYS}
    assert said(understood(tmp_path, {**leak, "time": I}), "possible_leakage", "'time'")
    assert not said(understood(tmp_path, {**leak, "day": I}), "ordered_in_time")
    assert not said(understood(tmp_path, table(day=np.where(I < 80, DAYS, ""))), "ordered_in_time")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("counter", I),
        ("row", I + 1),
        ("x", 5000 + 3 * I),
        ("CustomerNumber", 100_000 + I),
        ("order_no", 43_831 + I),
        ("user_id", 1_600_000_000 + I),
        ("zip", np.sort(RNG.integers(35_000, 49_000, N))),
        ("income", np.sort(RNG.permutation(10**6)[:N])),
        ("x", RNG.permutation(1_600_000_000 + 3600 * I)),
        ("day", RNG.permutation(DAYS)),
        ("year", 2000 + RNG.integers(0, 20, N)),
        ("temperature", np.sort(RNG.normal(size=N))),
    ],
)
def test_what_only_counts_or_is_sorted_is_no_time(tmp_path: Path, name: str, values: Any) -> None:
    assert not said(understood(tmp_path, table(**{name: values})), "ordered_in_time")


def test_a_word_is_no_month(tmp_path: Path) -> None:
    found = understood(tmp_path, table(x=[f"{('mara', 'item', 'June')[i % 3]} {1990 + i % 30}" for i in range(N)]))
    assert next(column for column in found.columns if column.name == "x").role == "category"


@pytest.mark.parametrize(
    ("name", "values", "typed"),
    [
        ("patient_id", 1000 + I // 8, "group:patient_id"),
        ("PatientID", [f"P{i // 8:03}" for i in I], "group:PatientID"),
        ("subject", I // 10 + 1, "group:subject"),
        ("sub", RNG.permutation(I % 20), "group:sub"),
        ("my col id", I % 20, "'group:my col id'"),
        ("fold", I % 5, "group:fold"),
        ("split", np.array(["train", "test", "valid"])[I % 3], "column:split"),
        ("set", np.array(["Train", "TEST"])[I % 2], "column:set"),
        ("anything", np.array(["training", "holdout"])[I % 2], "column:anything"),
    ],
)
def test_a_split_is_proposed_with_what_to_type(tmp_path: Path, name: str, values: Any, typed: str) -> None:
    found = understood(tmp_path, table(**{name: values}))
    assert said(found, "Warning", repr(name), f"--split {typed}, in a spec split: {{by: ")
    split = typed.strip("'")
    assert said(understood(tmp_path, table(**{name: values}), split=split), f"'{name}' splits the rows")
    if split.startswith("column"):
        assert used(found) == ["a"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("region_id", I % 4),
        ("patient_id", I),
        ("subject", RNG.normal(size=N)),
        ("set", np.array(["red", "blue"])[I % 2]),
        ("stage", np.array(["train", "station"])[I % 2]),
        ("kids", I % 6),
    ],
)
def test_no_split_is_proposed_without_reason(tmp_path: Path, name: str, values: Any) -> None:
    found = understood(tmp_path, table(**{name: values}))
    assert not said(found, "--split")
