"""Rows that sum up others are left out aloud; a firm that is called Total stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.table_support import said, understood

VALUES = np.random.default_rng(0).integers(10, 100, 60)
ROWS = [("abc"[i % 3], i % 7 + 1, int(y)) for i, y in enumerate(VALUES)]


def text(rows: list[tuple[object, ...]]) -> str:
    return "kind,a,y\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize(
    "last",
    [
        ("Total", "", 3200), ("Gesamt", 450, 4900), ("Summe:", "", VALUES.sum()), ("Grand Total", 1, 9999), ("SUMA", "", 3300),
        ("Totale", "", 3100), ("", "", VALUES.sum()), ("a", 3, VALUES.sum()), ("Total 2020", "", VALUES.sum()),
    ],
)  # fmt: skip
def test_the_last_row_is_a_sum(tmp_path: Path, last: tuple[object, ...]) -> None:
    found = understood(tmp_path, text([*ROWS, last]))
    assert said(found, "Warning totals_left_out: left out 1 row (data row 61)")
    assert sorted(found.target.values) == sorted(VALUES)
    assert found.places.tolist() == list(range(1, 61))


def test_sums_in_between(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = []
    for start in range(0, 60, 10):
        part = ROWS[start : start + 10]
        rows += [*part, ("Zwischensumme", sum(row[1] for row in part), sum(row[2] for row in part))]
    found = understood(tmp_path, text([*rows, ("Summe", "", VALUES.sum())]))
    assert said(found, "left out 7 rows (data rows 11, 22, 33, 44, 55 …)", "'Zwischensumme', 'Summe'")
    assert found.target.values.tolist() == VALUES.tolist()
    assert 11 not in found.places
    assert found.places[-1] == 65


@pytest.mark.parametrize("row", [("Total", 3, 50), ("Total Corn Flakes", 4, 70), ("a", 3, 3201), ("Summit", 3, 3200)])
@pytest.mark.parametrize("place", [2, 60])
def test_what_sums_up_nothing_stays(tmp_path: Path, row: tuple[object, ...], place: int) -> None:
    found = understood(tmp_path, text([*ROWS[:place], row, *ROWS[place:]]))
    assert not said(found, "totals_left_out")
    assert len(found.target.values) == 61


def test_a_category_that_many_rows_have_stays(tmp_path: Path) -> None:
    rows = [(("m", "f", "total")[i % 3], i % 7, y) for i, (_, _, y) in enumerate(ROWS)]
    assert not said(understood(tmp_path, text(rows)), "totals_left_out")
