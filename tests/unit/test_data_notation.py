"""Cells as people write them, and what each is worth. The column as a whole decides how they are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.data import notation
from optim_core.data.compact_dates import compact_dates
from optim_core.data.dates import read_dates
from optim_core.data.notation import Missing, Notation, as_text, decimal_mark, read_numbers
from optim_core.data.texts import Texts

COMMAS = Notation(",", "other columns have decimal commas")


def numbers(cells: list[str], notation: Notation | None = None) -> tuple[list[float], str] | None:
    text = as_text(pd.Series(cells, dtype="str"), Missing.of(None))
    found = read_numbers("x", text, notation or Notation())
    return None if found is None else (found.values.tolist(), " ".join(found.notes))


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "2,25", "-3"], [1.5, 2.25, -3]),
        (["1,234.5", "12", "1,234,567"], [1234.5, 12, 1234567]),
        (["1.234,5", "12", "1.234.567"], [1234.5, 12, 1234567]),
        (["1 234,5", "1\u00a0234", "1\u202f234\u202f567,25"], [1234.5, 1234, 1234567.25]),
        (["1'234.5", "2’345"], [1234.5, 2345]),
        (["12,34,567.5", "1,00,000"], [1234567.5, 100000]),
        (["$1,234.50", "-$2", "$ 5", "$-7"], [1234.5, -2, 5, -7]),
        (["7,5 €", "1.234 €"], [7.5, 1234]),
        (["EUR 7.5", "EUR 8"], [7.5, 8]),
        (["12%", "3.5 %", "0", "-1%"], [0.12, 0.035, 0, -0.01]),
        (["8.4M", "12k", "900", "1.5B", "2bn"], [8.4e6, 12e3, 900, 1.5e9, 2e9]),
        (["(1,234)", "(5.5)", "3"], [-1234, -5.5, 3]),
        (["\u22125", "\u22122.5", "3"], [-5, -2.5, 3]),
        (["1e3", "2.5E-2", "+4"], [1000, 0.025, 4]),
        ([".5", "5."], [0.5, 5]),
        (["100,50-", "3,25", "1.000,00-"], [-100.5, 3.25, -1000]),
        (["100.50-", "7 EUR", "1- EUR"], [-100.5, 7, -1]),
        (["70.5 kg", "71 kg", "72"], [70.5, 71, 72]),
        (["5 KM", "7km"], [5, 7]),
        (["21,5 °C", "-3,25 °C"], [21.5, -3.25]),
        (["3 m/s", "4.5 m/s"], [3, 4.5]),
        (["20 m²", "35 m²"], [20, 35]),
        (["5%", "0.05", "7.5%", "0"], [0.05, 0.05, 0.075, 0]),
        (["0.123", "0.456"], [0.123, 0.456]),
    ],
)  # fmt: skip
def test_numbers(cells: list[str], values: list[float]) -> None:
    found = numbers(cells)
    assert found is not None
    assert found[0] == pytest.approx(values, rel=1e-15)


@pytest.mark.parametrize(
    "cells",
    [
        ["$5", "€6"], ["1.2.3", "2.3.4"], ["12:30", "13:45"], ["555-1234", "555-9876"], ["12a", "14b"],
        ["5 kg", "7 lb"], ["5 kg", "$7"],
        ["1,2,3", "4,5"], ["red", "blue"], ["--5"], ["(5", "6)"], ["1 2", "3 4"], ["0x1F"], ["1_000"], ["3M x", "4M"],
    ],
)  # fmt: skip
def test_what_are_no_numbers(cells: list[str]) -> None:
    assert numbers(cells) is None


def test_a_column_that_does_not_tell_is_read_as_the_others_of_the_file() -> None:
    found = numbers(["1,234", "2,345", "999"])
    assert found is not None
    assert found[0] == [1234, 2345, 999]
    assert "'1,234' counts as 1234, because no other column shows a decimal comma" in found[1]
    found = numbers(["1,234", "2,345", "999"], COMMAS)
    assert found is not None
    assert found[0] == [1.234, 2.345, 999]
    assert "because other columns have decimal commas" in found[1]
    assert numbers(["1.234", "2.345"]) == ([1.234, 2.345], "")
    found = numbers(["1.234", "2.345"], COMMAS)
    assert found is not None
    assert found[0] == [1234, 2345]
    # One that tells by itself is not asked.
    assert numbers(["1.5", "2.25"], COMMAS) == ([1.5, 2.25], "")
    assert numbers(["1,234", "2,345"], Notation(",", forced=True)) == ([1.234, 2.345], "")


@given(st.lists(st.from_regex(r"\A[+-]?[0-9]{1,5}(,[0-9]{1,5})?\Z"), min_size=1, max_size=8), st.sampled_from(".,"))
def test_the_quick_way_to_decimal_commas_says_what_the_careful_one_says(cells: list[str], mark: str) -> None:
    found = numbers(cells, Notation(mark))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(notation, "_decimal_commas", lambda *_: None)
        careful = numbers(cells, Notation(mark))
    if notation._decimal_commas(pa.array(cells, type=pa.large_string()), Notation(mark)) is not None:
        assert careful is not None
        assert found is not None
        assert careful[0] == found[0]


def test_the_mark_of_a_file_is_that_of_most_columns() -> None:
    comma, point, neither = (pd.Series(cells, dtype="str") for cells in (["1,5", "2"], ["$1.5", "2"], ["1,234", "2"]))
    words = pd.Series(["red", "1,5"], dtype="str")
    assert decimal_mark([comma, neither], 0, ".")[0] == ","
    assert decimal_mark([comma, comma, point], 0, ".")[0] == ","
    assert decimal_mark([comma, point, point], 0, ",")[0] == "."
    assert decimal_mark([comma], 2, ".")[0] == "."
    assert decimal_mark([neither, words], 0, ",")[0] == ","


def test_strays_are_gaps_and_are_named() -> None:
    cells = [f"{i * 0.37:.2f}" for i in range(89)] + ["<0.1"] * 6 + ["missing"] * 4 + ["N/A "]
    found = numbers(cells)
    assert found is not None
    assert np.isnan(found[0]).sum() == 11
    assert found[1] == "In 'x' 10 values that are no numbers ('<0.1', 'missing') count as missing."
    assert np.isnan(numbers([f"{i}%" for i in range(1, 40)] + ["0.5"])[0]).sum() == 1  # type: ignore[index]


def test_one_word_among_numbers_is_a_gap_even_where_it_is_frequent() -> None:
    found = numbers([f"{i * 0.37:.2f}" for i in range(80)] + ["<LOD"] * 40)
    assert found is not None
    assert np.isnan(found[0]).sum() == 40
    assert found[1] == "In 'x' 40 values that are no numbers ('<LOD') count as missing."
    found = numbers([f"{i * 0.37:.2f}" for i in range(80)] + ["<0.1", "<0.5"] * 20)
    assert found is not None
    assert "40 values that are no numbers ('<0.1', '<0.5')" in found[1]
    assert numbers([f"{i * 0.37:.2f}" for i in range(40)] + ["<LOD"] * 41) is None


@pytest.mark.parametrize(
    "cells",
    [
        ["3", "4", "5", "6", "8"] * 20 + ["rotary"] * 3,
        [str(i) for i in range(50)] + ["other", "none of them"] * 10,
        [str(i) for i in range(60)] + [f"{i}a" for i in range(12)],
        ["S", "M", "L", "1", "2", "3"] * 10,
    ],
    ids=["cylinders", "too many", "house numbers", "sizes"],
)
def test_what_is_a_category_stays_one(cells: list[str]) -> None:
    assert numbers(cells) is None


def dates(cells: list[str]) -> tuple[list[str], str] | None:
    found = read_dates("d", Texts.of(pd.Series(cells, dtype="str")))
    return (
        None if found is None else ([str(one) for one in found.stamps.astype(str).fillna("NaT")], " ".join(found.notes))
    )


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2020-01-31", "2020-01-31"), ("2020/1/31", "2020-01-31"), ("31.01.2020", "2020-01-31"), ("01/31/20", "2020-01-31"),
        ("31/01/99", "1999-01-31"), ("31 Jan 2020", "2020-01-31"), ("31 January 2020", "2020-01-31"),
        ("Jan 31, 2020", "2020-01-31"), ("January 31 2020", "2020-01-31"), ("31-Jan-20", "2020-01-31"),
        ("31JAN2020", "2020-01-31"), ("Fri, 31 Jan 2020", "2020-01-31"), ("31st Jan 2020", "2020-01-31"),
        ("Sept. 5, 2011", "2011-09-05"), ("Jan 2020", "2020-01-01"), ("2020-02", "2020-02-01"), ("2020Q4", "2020-10-01"),
        ("2020-01-31T13:30:05Z", "2020-01-31 13:30:05"), ("2020-01-31 13:30", "2020-01-31 13:30:00"),
        ("2020-01-31T01:30:00+02:00", "2020-01-30 23:30:00"), ("2020-01-31T23:30:00-0130", "2020-02-01 01:00:00"),
        ("2020-01-31 1:05 PM", "2020-01-31 13:05:00"), ("1/31/2020 12:00 AM", "2020-01-31"),
        ("31 Jan 2020, 10:11:12.5", "2020-01-31 10:11:12.500"), ("29.02.2020", "2020-02-29"),
    ],
)  # fmt: skip
def test_dates(cell: str, value: str) -> None:
    found = dates([cell, cell])
    assert found is not None
    assert found[0][0] == value


@pytest.mark.parametrize(
    "cells",
    [["10", "12"], ["2020-13-01"], ["2019-02-29"], ["31/31/2020"], ["2020-01-01T25:00"], ["may"], ["1.5.2"], ["red"],
     ["2020-01-01", "02/03/2020 or later"], ["01-02/2020"], ["0000-01-01"], ["13:30 PM"]],
)  # fmt: skip
def test_what_are_no_dates(cells: list[str]) -> None:
    assert dates(cells) is None


def test_day_and_month_have_one_order_in_a_column() -> None:
    found = dates(["01/02/20", "13/02/20"])
    assert found == (["2020-02-01", "2020-02-13"], "In 'd' the dates are read day first.")
    assert dates(["01/02/20", "02/13/20"]) == (["2020-01-02", "2020-02-13"], "In 'd' the dates are read month first.")
    # Neither shows a day beyond the twelfth: the order of the rows tells, or nothing does.
    found = dates(["01/11/2020", "02/11/2020", "01/12/2020"])
    assert found is not None
    assert found[0] == ["2020-11-01", "2020-11-02", "2020-12-01"]
    assert "day first, as the rows are in order of time" in found[1]
    unsure = dates(["03/02/2020", "01/04/2020", "02/02/2020"])
    assert unsure is not None
    assert "month first, though either would fit" in unsure[1]
    assert "day first, though" in dates(["03.02.2020", "01.04.2020", "02.02.2020"])[1]  # type: ignore[index]
    assert dates(["13/01/2020", "01/13/2020"]) is None


def test_strays_among_dates_are_gaps() -> None:
    cells = [f"{i % 28 + 1:02d} Mar {2000 + i // 28}" for i in range(80)] + ["unknown"] * 8
    found = dates(cells)
    assert found is not None
    assert found[0].count("NaT") == 8
    assert found[1] == "In 'd' 8 values that are no dates ('unknown') count as missing."


def test_days_written_as_one_number() -> None:
    values = np.array([20200101.0 + i for i in range(20)] + [np.nan])
    found = compact_dates(values)
    assert found is not None
    assert found[0] == pd.Timestamp("2020-01-01")
    assert found.isna().sum() == 1
    assert compact_dates(np.array([20200101.0 + i for i in range(40)])) is None, "the 40th of January"
    assert compact_dates(np.array([20200101.0, 20200102.0])) is None, "too few to tell"


def test_words_for_no_value() -> None:
    found = as_text(pd.Series(["NA", "-", "x", " N/A ", "", " x"], dtype="str"), Missing.of(None))
    assert (found.codes.tolist(), found.distinct.tolist()) == ([-1, -1, 0, -1, -1, 0], ["x"])
    kept = as_text(pd.Series(["NA", "-", "x", "", "-999"], dtype="str"), Missing.of(["x", "-999"]))
    assert kept.gaps.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("years", "first", "last", "told"),
    [
        (range(30, 100), 1930, 1999, True),
        ([*range(30, 100), *range(11)], 1930, 2010, True),
        ([*range(95, 100), *range(20)], 1995, 2019, False),
        (range(40, 69), 1940, 1968, True),
        (range(65, 80), 1965, 1979, True),
        (range(20, 31), 2020, 2030, True),
        (range(20), 2000, 2019, False),
        (range(100), 1927, 2026, True),
    ],
)
@pytest.mark.parametrize("form", ["%d.%m.{:02d}", "%m/%d/{:02d}", "%d-%b-{:02d}"])
def test_years_of_two_digits_are_of_the_century_that_tears_no_column(
    years: Sequence[int], first: int, last: int, told: bool, form: str
) -> None:
    day = pd.Timestamp("2001-03-29")
    cells = pd.Series([day.strftime(form).format(year) for year in years], dtype="str")
    found = read_dates("born", Texts.of(cells))
    assert found is not None
    assert found.stamps.dt.year.tolist() == [1900 + y if 1900 + y >= first else 2000 + y for y in years]
    assert (found.stamps.dt.year.min(), found.stamps.dt.year.max()) == (first, last)
    assert any(f"'born' years of two digits are {first} to {last}" in note for note in found.notes) == told
