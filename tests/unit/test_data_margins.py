"""Rows of a file that are none of its table: the names once more, ruled lines, titles of pages, footers; and rows cut short."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from optim_core.spec.errors import DataError
from tests.unit.test_data_heads import read, refused, said

N = 60
RNG = np.random.default_rng(11)
X = np.round(RNG.normal(size=N), 3)
NAMES = "x,kind,y"
ROWS = [f"{x},{'uvw'[i % 3]},{'pos' if x > 0 else 'neg'}" for i, x in enumerate(X)]
PLAIN = "\n".join([NAMES, *ROWS]) + "\n"


def check_plain(folder: Path, content: str | bytes, name: str = "t.csv") -> None:
    """``content`` is read as the plain table is."""
    expected, found = read(folder, PLAIN), read(folder, content, name)
    assert found.target.classes == ["neg", "pos"]
    np.testing.assert_array_equal(found.target.values, expected.target.values)
    np.testing.assert_array_equal(found.columns[0].numbers, expected.columns[0].numbers)  # type: ignore[arg-type]
    assert [(column.name, column.role) for column in found.columns] == [("x", "number"), ("kind", "category")]
    assert not said(found, "count as missing")
    assert not said(found, "first_row")


@pytest.mark.parametrize("again", [NAMES, " x , kind ,y ", "\ufeffx,kind,y", '"x","kind","y"'])
@pytest.mark.parametrize("places", [(20, 40), (0,), (N,)])
def test_the_names_once_more_are_no_row(tmp_path: Path, again: str, places: tuple[int, ...]) -> None:
    rows = list(ROWS)
    for place in reversed(places):
        rows.insert(place, again)
    text = "\n".join([NAMES, *rows]) + "\n"
    check_plain(tmp_path, text)
    many = f"{len(places)} row{'s repeat' if len(places) > 1 else ' that repeats'}".replace(
        "rows repeat", "rows that repeat"
    )
    assert said(read(tmp_path, text), "Passed over", many)


@pytest.mark.parametrize("kind", ["xlsx", "parquet", "json"])
def test_the_names_once_more_in_other_formats(tmp_path: Path, kind: str) -> None:
    frame = pd.read_csv(io.StringIO("\n".join([NAMES, *ROWS[:30], NAMES, *ROWS[30:]])), dtype=str)
    out = io.BytesIO()
    if kind == "xlsx":
        book = openpyxl.Workbook()
        for row in [NAMES.split(","), *frame.to_numpy().tolist()]:
            book.active.append([float(row[0]) if row[0] != "x" else "x", *row[1:]])  # type: ignore[union-attr]
        book.save(out)
    elif kind == "parquet":
        frame.to_parquet(out)
    else:
        out.write(frame.to_json(orient="records").encode())
    check_plain(tmp_path, out.getvalue(), f"t.{kind}")


def test_a_day_of_a_sheet_stays_one_where_the_names_come_again(tmp_path: Path) -> None:
    days = pd.date_range("2023-01-01", periods=N).to_pydatetime()
    hashes = []
    for repeated in ([], [30]):
        book, out = openpyxl.Workbook(), io.BytesIO()
        for i, row in enumerate(
            [("day", "flag", "y"), *((day, i % 3 == 0, float(X[i])) for i, day in enumerate(days))]
        ):
            if i in repeated:
                book.active.append(("day", "flag", "y"))  # type: ignore[union-attr]
            book.active.append(row)  # type: ignore[union-attr]
        book.save(out)
        found = read(tmp_path, out.getvalue(), "t.xlsx")
        hashes.append([(column.name, column.role) for column in found.columns])
        day = next(column.numbers for column in found.columns if column.name == "day")
        assert day is not None
        assert day[:, 0].tolist() == [19358.0 + i for i in range(N)]
    assert hashes[0] == hashes[1]


def test_two_rows_of_names_and_units_come_again(tmp_path: Path) -> None:
    rows = [f"{x},{X[-i]},{i % 2}" for i, x in enumerate(X)]
    for head in (["a,b,y", "kg,m/s,-"], ["Sales,,y", "2019,2020,"]):
        expected = read(tmp_path, "\n".join([*head, *rows]))
        found = read(tmp_path, "\n".join([*head, *rows[:30], *head, *rows[30:]]))
        assert found.names == expected.names
        assert len(found.target.values) == N
        assert said(found, "Passed over 2 rows that repeat")
        assert {column.role for column in found.columns} == {"number"}


def test_of_a_table_without_names_no_row_is_lost(tmp_path: Path) -> None:
    rows = [("uvw"[i % 3], "pq"[i % 2], "ab"[(i // 2) % 2]) for i in range(N)]
    found = read(tmp_path, "\n".join(",".join(row) for row in rows), target="a")
    assert said(found, "Warning first_row")
    assert not said(found, "repeat")
    assert len(found.target.values) == N - 1
    text = "\n".join(",".join(row) for row in rows)
    assert len(read(tmp_path, text, target="column 3", header="none").target.values) == N


@pytest.mark.parametrize("row", ["x,w,pos", "0.5,kind,y", "0.5,kind,pos"])
def test_a_row_that_is_like_the_names_in_part_stays(tmp_path: Path, row: str) -> None:
    assert not said(read(tmp_path, PLAIN + row + "\n"), "Passed over")


PAGE = "List of receipts, page {}\n\n-----------------\n|x    |kind|y  |\n-----------------\n"


def test_a_list_for_paper(tmp_path: Path) -> None:
    rows = ["|" + row.replace(",", "|") + "|" for row in ROWS]
    text = (
        PAGE.format(1) + "\n".join(rows[:30]) + "\n\n" + PAGE.format(2) + "\n".join(rows[30:]) + "\n-----------------\n"
    )
    check_plain(tmp_path, text, "t.txt")
    found = read(tmp_path, text, "t.txt")
    assert said(found, "Passed over 4 ruled lines among the rows")
    assert said(found, "Passed over 1 line between the pages")
    assert said(found, "Passed over 1 row that repeats the names")


@pytest.mark.parametrize("rule", ["---,---,---", "-----,,", "===|====|===", "|---|:--|--:|", "---+---+---"])
def test_a_ruled_line_is_no_row(tmp_path: Path, rule: str) -> None:
    sep = "|" if "|" in rule else ","
    around = ("|{}|" if rule.startswith("|") else "{}").format
    text = "\n".join([around(NAMES), rule, *map(around, ROWS)]).replace(",", sep)
    check_plain(tmp_path, text)
    assert said(read(tmp_path, text), "Passed over")


@pytest.mark.parametrize(
    "below",
    ["Source: ERP", "\nSource: ERP, all shops", "(60 rows affected)", "Source: ERP,,", "\n\n2 pages\nas of 2024-01-01"],
)
def test_what_stands_below_the_last_row_is_no_row(tmp_path: Path, below: str) -> None:
    check_plain(tmp_path, PLAIN + below + "\n")
    assert said(
        read(tmp_path, PLAIN + below),
        "Passed over",
        "below the rows, such as",
        below.strip().split("\n")[0].rstrip(","),
    )


def test_what_stands_below_a_sheet_is_no_row(tmp_path: Path) -> None:
    book, out = openpyxl.Workbook(), io.BytesIO()
    cells = [[float(row.split(",")[0]), *row.split(",")[1:]] for row in ROWS]
    for row in [NAMES.split(","), *cells, [], ["Source: ERP"]]:
        book.active.append(row)  # type: ignore[union-attr]
    book.save(out)
    check_plain(tmp_path, out.getvalue(), "t.xlsx")


def test_rows_of_one_value_are_rows_where_others_have_one(tmp_path: Path) -> None:
    rows = [f"{'abcdefgh'[i % 8]},{x if i % 4 else ''},{i % 3 if i % 4 else ''}" for i, x in enumerate(X)]
    assert not said(read(tmp_path, "\n".join(["k,x,y", *rows[:57]])), "below")


def test_a_few_rows_that_end_early_are_filled_aloud(tmp_path: Path) -> None:
    rows = [f"{x},{i % 3},{X[-i]}" for i, x in enumerate(X)]
    rows[30], rows[41] = f"{X[30]},1", f"{X[41]}"
    found = read(tmp_path, "\n".join(["y,a,b", *rows]))
    assert said(found, "Warning short_rows: 2 rows have fewer fields", "(lines 32, 43)")
    assert len(found.target.values) == N
    a, b = (next(c.numbers for c in found.columns if c.name == name) for name in "ab")
    assert a is not None
    assert b is not None
    assert np.flatnonzero(np.isnan(a[:, 0])).tolist() == [41]
    assert np.flatnonzero(np.isnan(b[:, 0])).tolist() == [30, 41]
    assert a[30, 0] == 1


def test_many_rows_that_end_early_are_refused(tmp_path: Path) -> None:
    rows = [f"{x},{i % 3}" + (f",{X[-i]}" if i % 5 else "") for i, x in enumerate(X)]
    assert "line 2: has 2 fields where the header has 3, as are 11 others" in refused(
        tmp_path, "\n".join(["y,a,b", *rows])
    )


def test_empty_fields_too_many_are_cut_and_others_are_not(tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[7] += ",,"
    text = "\n".join([NAMES, *rows])
    check_plain(tmp_path, text)
    assert said(read(tmp_path, text), "Passed over empty fields beyond the last column in line 9")
    rows[9] += ",,more"
    with pytest.raises(DataError, match="line 11: has 5 fields where the header has 3"):
        read(tmp_path, "\n".join([NAMES, *rows]))
