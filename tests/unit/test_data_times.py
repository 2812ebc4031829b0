"""Notations of times that programs write, each with its moments; and texts that only look like some."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optim_core.data import understand
from optim_core.data.dates import read_dates
from optim_core.data.prepare import Understood
from optim_core.data.texts import Texts
from optim_core.data.times import moments_in
from optim_core.spec.validation import parse_spec

N = 60
RNG = np.random.default_rng(13)
# The last hour of a day, so that neither zones nor clocks of twelve hours are forgotten unseen.
START = dt.datetime(2019, 1, 27, 23, 0, 20)
WEEKLY = [START + dt.timedelta(days=7 * i, hours=i) for i in range(N)]
# Hours that the zone is east of Greenwich.
INSTANTS = {
    "Google Forms": ("%Y/%m/%d %I:%M:%S %p GMT+1", 1), "abbreviated zone": ("%Y-%m-%d %H:%M:%S CET", 1),
    "American zone": ("%Y-%m-%d %H:%M:%S EST", -5), "ctime": ("%a %b %d %H:%M:%S %Y", 0),
    "date": ("%a %b %d %H:%M:%S CEST %Y", 2), "Apache": ("%d/%b/%Y:%H:%M:%S +0100", 1),
    "Oracle": ("%d-%b-%y %I.%M.%S.000000 %p", 0), "clock first": ("%H:%M:%S %d/%m/%Y", 0),
    "basic ISO": ("%Y%m%dT%H%M%SZ", 0), "of a file": ("%Y-%m-%d_%H-%M-%S", 0), "digits": ("%Y%m%d%H%M%S", 0),
    "DB2": ("%Y-%m-%d-%H.%M.%S.000000", 0), "log4j": ("%Y-%m-%d %H:%M:%S,000", 0),
    "JavaScript": ("%a %b %d %Y %H:%M:%S GMT+0530 (India Standard Time)", 5.5),
    "Java": ("%Y-%m-%dT%H:%M:%S+01:00[Europe/Berlin]", 1), "Uhr": ("%d.%m.%Y %H:%M:%S Uhr", 0),
    "narrow space": ("%m/%d/%Y, %I:%M:%S\u202f%p", 0), "at": ("%b %d, %Y at %I:%M:%S %p", 0),
}  # fmt: skip
DAYS = {
    "digits": "%Y%m%d", "year first": "%Y-%b-%d", "spaces": "%d. %m. %Y", "Japanese": "%Y年%m月%d日",
}  # fmt: skip


def read(texts: list[str]) -> pd.Series:
    found = read_dates("t", Texts.of(pd.Series(texts, dtype="str")))
    assert found is not None, texts[0]
    return found.stamps


def understood(folder: Path, when: list[str] | np.ndarray) -> Understood:
    frame = pd.DataFrame({"when": when, "x": RNG.normal(size=len(when)), "y": RNG.normal(size=len(when))})
    frame.to_csv(folder / "t.csv", index=False)
    dataset = {"kind": "file", "path": str(folder / "t.csv"), "target": "y"}
    return understand(parse_spec({"model": {"kind": "catalogue", "name": "mlp"}, "dataset": dataset}))


@pytest.mark.parametrize("kind", INSTANTS)
def test_a_notation_of_programs_is_read_to_the_second(kind: str) -> None:
    pattern, east = INSTANTS[kind]
    stamps = read([moment.strftime(pattern) for moment in WEEKLY])
    assert (stamps == pd.Series(WEEKLY) - pd.Timedelta(hours=east)).all()


@pytest.mark.parametrize("kind", DAYS)
def test_a_notation_of_days_is_read(kind: str) -> None:
    stamps = read([moment.strftime(DAYS[kind]) for moment in WEEKLY])
    assert (stamps == pd.Series(WEEKLY).dt.normalize()).all()


def test_months_quarters_weeks_and_days_without_a_year_are_read() -> None:
    months = pd.date_range("2015-01-01", periods=N, freq="MS")
    for pattern in ("%b-%y", "%b '%y", "%YM%m"):
        assert (read([*months.strftime(pattern)]) == months).all()
    quarters = pd.date_range("2005-01-01", periods=N, freq="QS")
    for texts in ([f"Q{q.quarter} {q.year}" for q in quarters], [f"{q.quarter}Q{q.year}" for q in quarters]):
        assert (read(texts) == quarters).all()
    mondays = pd.date_range("2018-12-31", periods=120, freq="7D")
    for pattern in ("%G-W%V", "%GW%V", "KW %V/%G", "%G-W%V-1"):
        assert (read([*mondays.strftime(pattern)]) == mondays).all()
    assert read(["2020-W53-7"] * 9)[0] == pd.Timestamp("2021-01-03")
    hours = pd.date_range("2000-02-27 22:00", periods=N, freq="h")
    for pattern in ("%d.%m. %H:%M", "%b %d %H:%M:%S", "%d/%m %H:%M"):
        assert (read([*hours.strftime(pattern)]) == hours).all()


def test_an_unknown_zone_or_hour_is_none() -> None:
    assert read_dates("t", Texts.of(pd.Series(["2019-01-01 10:00 XYZ"] * 9, dtype="str"))) is None
    assert read_dates("t", Texts.of(pd.Series(["20190101T250000Z"] * 9, dtype="str"))) is None


@pytest.mark.parametrize("kind", INSTANTS)
def test_rows_in_the_order_of_such_times_are_not_shuffled_in_silence(tmp_path: Path, kind: str) -> None:
    found = understood(tmp_path, [moment.strftime(INSTANTS[kind][0]) for moment in WEEKLY])
    assert any("Warning ordered_in_time" in one and "--split time:when" in one for one in found.report)


def test_one_column_in_four_notations_is_read(tmp_path: Path) -> None:
    patterns = ("%Y-%m-%d", "%d.%m.%Y", "%b %d, %Y", "%Y%m%d")
    found = understood(tmp_path, [moment.strftime(patterns[i % 4]) for i, moment in enumerate(WEEKLY)])
    moments = moments_in(found.columns[0])
    assert moments is not None
    np.testing.assert_array_equal(
        np.diff(moments), np.diff([(day.date() - dt.date(1970, 1, 1)).days for day in WEEKLY])
    )
    assert any("Warning ordered_in_time" in one for one in found.report)


@pytest.mark.parametrize(
    "texts",
    [
        [f"{moment:%M:%S past %H}, {moment.timetuple().tm_yday}/{moment.year}" for moment in WEEKLY],
        [f"{moment.timetuple().tm_yday:03}-{moment.year}" for moment in WEEKLY],
        [f"{moment:%H:%M:%S %j %Y}" for moment in WEEKLY],
        [f"{moment:%m/%d/%Y}" if i % 2 else f"{moment:%d/%m/%Y}" for i, moment in enumerate(WEEKLY)],
        [f"{moment:%d-%b} {moment:%H:%M}h" for moment in WEEKLY],
    ],
)
def test_times_that_are_not_understood_are_said(tmp_path: Path, texts: list[str]) -> None:
    found = understood(tmp_path, texts)
    past = "past" in texts[0]
    assert any("Warning unread_times: 'when'" in one for one in found.report) is not past
    assert any("Left out 'when'" in one for one in found.report)


@pytest.mark.parametrize(
    "texts",
    [
        [f"192.168.{i // 9}.{i}" for i in range(N)],
        [f"{i // 7}.{i % 7}.{i}" for i in range(N)],
        [f"+49 30 {2000 + i} {i:02}" for i in range(N)],
        [f"030/20{i:02}-{i * 7}" for i in range(N)],
        [f"{2000 + i}-{2003 + i}" for i in range(N)],
        [f"2019-{i:04}" for i in range(N)],
        [f"INV-2019-{i:02}" for i in range(N)],
        [f"Mara {i} Street" for i in range(N)],
        [f"A{i:02}-{i % 7}" for i in range(N)],
        [f"{i}-{i + 4}" for i in range(N)],
        [f"{i}:{i % 7}" for i in range(N)],
        [f"978-3-16-148410-{i}" for i in range(N)],
        [f"{i / 7:.4f} {i / 9:.4f}" for i in range(N)],
    ],
)
def test_numbers_of_things_are_no_times(tmp_path: Path, texts: list[str]) -> None:
    found = understood(tmp_path, texts)
    assert not any("unread_times" in one or "ordered_in_time" in one for one in found.report)
    assert all(column.role != "date" for column in found.columns)


def test_ages_that_a_spreadsheet_took_for_months_are_categories(tmp_path: Path) -> None:
    ages = np.array(["5-Sep", "14-Oct", "15-19", "20-24", "25-29"])[np.arange(N) % 5]
    assert understood(tmp_path, ages).columns[0].role == "category"
