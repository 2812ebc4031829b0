"""Rows that sum up others are left out aloud; a firm that is called Total stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optim_core.data.source import Source
from optim_core.data.totals import without_totals
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


def written(rows: list[tuple[object, ...]], kinds: bool = True) -> str:
    names = ("shop", "items", "sales", "y") if kinds else ("items", "sales", "y")
    return "\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n"


SALES = np.round(np.random.default_rng(1).normal(100, 10, 60), 2)
SHOPS = [(f"S{i % 3}", 7 * i % 41, sale, int(y)) for i, (sale, y) in enumerate(zip(SALES, VALUES, strict=True))]
ITEMS = [row[1] for row in SHOPS]
SUMS = (sum(ITEMS), f"{SALES.sum() + 0.01:.2f}", int(VALUES.sum()))
MEANS = (f"{np.mean(ITEMS):.1f}", f"{SALES.mean():.2f}", f"{VALUES.mean():.2f}")
SPREADS = (f"{np.std(ITEMS, ddof=1):.2f}", f"{SALES.std():.2f}", f"{VALUES.std():.2f}")


@pytest.mark.parametrize(
    "last",
    [
        *((word, *SUMS) for word in ("Gesamtergebnis", "Ergebnis", "", "Sum of all", "Σ", "Alle zusammen")),
        *((word, *MEANS) for word in ("Average", "Durchschnitt", "Mittelwert", "Mean", "Moyenne", "Ø", "", "im Mittel je Tag")),
        *((word, *SPREADS) for word in ("Stdabw.", "Std. Dev.", "STDEV")),
        ("Max", max(ITEMS), SALES.max(), VALUES.max()), ("Minimum", min(ITEMS), SALES.min(), VALUES.min()),
        ("Anzahl", 60, 60, 60), ("Average", f"{np.mean(ITEMS):.0f}", f"{SALES.mean():.0f}", f"{VALUES.mean():.0f}"),
        ("Ergebnis", "", SUMS[1], MEANS[2]),
    ],
)  # fmt: skip
def test_the_last_row_is_known_by_what_it_holds(tmp_path: Path, last: tuple[object, ...]) -> None:
    found = understood(tmp_path, written([*SHOPS, last]))
    assert said(found, "Warning totals_left_out: left out 1 row (data row 61)")
    assert found.target.values.tolist() == VALUES.tolist()


def test_several_rows_below_each_other(tmp_path: Path) -> None:
    found = understood(tmp_path, written([*SHOPS, ("Summe", *SUMS), ("Mittelwert", *MEANS), ("Stdabw.", *SPREADS)]))
    assert said(
        found, "left out 3 rows (data rows 61, 62, 63), which say 'Summe', 'Mittelwert', 'Stdabw.' and hold sums, means"
    )
    assert found.target.values.tolist() == VALUES.tolist()
    only = understood(tmp_path, written([*SHOPS, ("Mittelwert", *MEANS)]))
    assert said(only, "which says 'Mittelwert' and holds means and the like of others")


def test_sums_without_any_label(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [row[1:] for row in SHOPS]
    found = understood(tmp_path, written([*rows, SUMS], kinds=False))
    assert said(found, "left out 1 row (data row 61), which sums up others")
    comma = written([*SHOPS, ("Gesamtergebnis", *SUMS)]).replace(",", ";").replace(".", ",")
    assert said(understood(tmp_path, comma), "left out 1 row (data row 61), which says 'Gesamtergebnis'")


@pytest.mark.parametrize(
    "last",
    [
        ("S1", *MEANS), ("", 3, 101.5, 50), ("rare", 20, 99.87, 40), ("Average", 3, 80.0, 90), ("Maximum", 3, 80.0, 90),
        ("Ergebnis", 3, 101.5, 50), ("S1", 3, f"{SALES.mean():.2f}", 50), ("", "", "", 50),
    ],
)  # fmt: skip
def test_an_ordinary_last_row_stays(tmp_path: Path, last: tuple[object, ...]) -> None:
    found = understood(tmp_path, written([*SHOPS, last]))
    assert not said(found, "totals_left_out")


def test_a_category_that_is_called_average_stays(tmp_path: Path) -> None:
    rows = [(("Poor", "Average", "Good")[i % 3], *row[1:]) for i, row in enumerate(SHOPS)]
    assert not said(understood(tmp_path, written([*rows, ("Average", *MEANS)])), "totals_left_out")


def test_chance_leaves_no_row_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows = int(rng.integers(8, 80))
        common = rng.normal(size=rows)
        columns = {
            "few": rng.integers(0, 3, rows), "many": rng.integers(0, 100, rows), "like": np.round(common * 10 + 50),
            "long": np.round(rng.lognormal(0, 2, rows), 2), "grows": np.cumsum(rng.integers(0, 9, rows)),
        }  # fmt: skip
        kinds = rng.choice(list("abcdefgh"), rows).astype(object)
        kinds[-1] = [None, "rare", "a"][int(rng.integers(3))]
        features = pd.DataFrame(columns | {"kind": pd.Series(kinds, dtype="str")})
        source = Source(features, pd.Series(np.round(common * 5 + rng.normal(size=rows)), name="y"), "y")
        assert without_totals(source) is source
