"""Merged cells of a sheet: their value counts in each row that they span."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import openpyxl

from tests.unit.test_data_heads import read, said

N = 60
X = np.round(np.random.default_rng(2).normal(size=N), 3)
NAMES = ["region", "x", "shop", "y"]
ROWS = [[f"R{i // 10}", float(X[i]), f"S{i // 5 % 3}", i % 2] for i in range(N)]


def sheet(above: list[list[str]], *, merge: bool) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    page = book.active
    assert page is not None
    for row in [*above, NAMES, *ROWS]:
        page.append(row)
    if merge:
        first = len(above) + 2
        for place in range(0, N, 10):
            page.merge_cells(start_row=first + place, end_row=first + place + 9, start_column=1, end_column=1)
        for place in range(0, N, 5):
            page.merge_cells(start_row=first + place, end_row=first + place + 4, start_column=3, end_column=3)
        if above:
            page.merge_cells("A1:D1")
            page.merge_cells("A2:D3")
    book.save(out)
    return out.getvalue()


def test_merged_cells_count_in_each_row(tmp_path: Path) -> None:
    expected = read(tmp_path, sheet([], merge=False), "t.xlsx")
    for above in ([], [["Sales of 2023"], ["by region"], []]):
        found = read(tmp_path, sheet(above, merge=True), "t.xlsx")
        assert said(found, "Merged cells of 'region', 'shop' (18 values) count in each row that they span")
        assert [(one.name, one.role) for one in found.columns] == [(one.name, one.role) for one in expected.columns]
        for one, other in zip(found.columns, expected.columns, strict=True):
            if one.levels is not None and other.levels is not None:
                assert one.levels.first(N) == other.levels.first(N)
    assert not said(expected, "Merged")


def test_names_that_are_merged_name_no_row(tmp_path: Path) -> None:
    book, out = openpyxl.Workbook(), io.BytesIO()
    page = book.active
    assert page is not None
    rows = [[f"R{i % 4}", float(X[i]), 1.5 * i, i % 2] for i in range(N)]
    for row in [["region", "Sales", None, "y"], [None, 2019, 2020, None], *rows]:
        page.append(row)
    page.merge_cells("A1:A2")
    page.merge_cells("B1:C1")
    page.merge_cells("D1:D2")
    book.save(out)
    found = read(tmp_path, out.getvalue(), "t.xlsx")
    assert found.names == ["region", "Sales 2019", "Sales 2020"]
    assert len(found.target.values) == N
    assert not said(found, "Merged")
