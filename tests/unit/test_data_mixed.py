"""Cells with digits that are no plain quantities: codes, times of day, pairs, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optim_core.data import Understood, preview, preview_of, understand
from optim_core.spec.problem import FileDataset
from optim_core.spec.validation import parse_spec

N = 120
RNG = np.random.default_rng(8)
VALUES = RNG.normal(size=N)


def understood(folder: Path, table: dict[str, Any], kind: str = "csv", **rest: Any) -> Understood:
    frame, path = pd.DataFrame(table), folder / f"t.{kind}"
    match kind:
        case "parquet":
            frame.to_parquet(path, index=False)
        case "json":
            frame.to_json(path, orient="records")
        case _:
            frame.to_csv(path, index=False)
    return understand(parse_spec({"model": "mlp", "dataset": {"path": str(path), "target": "y"}, **rest}))


def said(found: Understood, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in found.report)


def goods() -> list[int]:
    numbers = []
    for stem in RNG.integers(400_000_000_000, 409_999_999_999, N):
        digits = [int(one) for one in str(stem)]
        numbers.append(int(f"{stem}{-sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10}"))
    return numbers


LONG = [f"{RNG.integers(10**14, 10**15)}{RNG.integers(10**13, 10**14)}" for _ in range(N)]


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
@pytest.mark.parametrize(
    ("values", "why"),
    [
        (LONG, "more digits than a number keeps"),
        ([2**53 + 1 + i for i in range(N)], "more digits than a number keeps"),
        (goods(), "check digit"),
        ([f"{i * 83 % 9973:05d}" for i in range(N)], "begin with 0"),
    ],
    ids=["29 digits", "counter beyond 2**53", "EAN", "postcodes"],
)
def test_codes_of_each_row_are_no_quantities(tmp_path: Path, values: list[Any], why: str, kind: str) -> None:
    found = understood(tmp_path, {"y": VALUES, "a": VALUES**2, "code": values}, kind)
    assert [column.name for column in found.columns] == ["a"]
    assert said(found, "Left out 'code'", why)


def test_codes_that_repeat_are_categories(tmp_path: Path) -> None:
    found = understood(tmp_path, {"y": VALUES, "plz": [f"{i % 9 + 1:05d}" for i in range(N)]})
    assert [(column.name, column.role) for column in found.columns] == [("plz", "category")]
    assert said(found, "'plz' are taken for codes: some begin with 0")
    repeated = goods()[:15] * (N // 15)
    assert understood(tmp_path, {"y": VALUES, "ean": repeated}).columns[0].role == "category"


def test_numbers_of_many_digits_are_numbers_still(tmp_path: Path) -> None:
    revenue = RNG.integers(10**7, 10**12, N)
    wild = np.arange(N) * 7 % 31
    frame = {"y": VALUES, "revenue": revenue, "wild": [10**25, *(int(v) for v in wild[1:])]}
    found = understood(tmp_path, frame)
    assert {column.name: column.role for column in found.columns} == {"revenue": "number", "wild": "number"}


def test_a_target_of_codes_is_one_of_classes_unless_it_is_called_a_quantity(tmp_path: Path) -> None:
    table = {"y": [f"{i % 5 + 8:02d}" for i in range(N)], "a": VALUES}
    assert understood(tmp_path, table).target.classes == ["08", "09", "10", "11", "12"]
    found = understood(tmp_path, table, task="regression")
    assert found.target.values.max() == 12


def test_times_of_day_are_hours(tmp_path: Path) -> None:
    times = [f"{i * 7 % 24}:{i * 13 % 60:02d}" for i in range(N)]
    times[3] = "late"
    found = understood(tmp_path, {"y": VALUES, "at": times})
    (column,) = found.columns
    assert column.role == "date"
    assert column.numbers is not None
    assert column.numbers[5, 0] == pytest.approx(35 % 24 + 65 % 60 / 60)
    assert np.isnan(column.numbers[3]).all()
    assert said(found, "'at'", "'late'", "counts as missing")
    assert said(found, "'23:53' counts as 23.8833 hours")
    assert said(found, "hours since midnight and a position in the day")
    assert understood(tmp_path, {"y": times, "a": VALUES}).target.task == "regression"


@pytest.mark.parametrize(
    ("cells", "role", "hours"),
    [
        (["9:05 pm", "8:00", "12:30am"], "date", [21 + 5 / 60, 8, 0.5]),
        (["9:05:30.25", "23:59:60", "24:00"], "date", [9 + 5 / 60 + 30.25 / 3600, 24, 24]),
        (["130:05", "12:30", "7:00"], "number", [130 + 5 / 60, 12.5, 7]),
    ],
)
def test_all_forms_of_times_are_read_alike(tmp_path: Path, cells: list[str], role: str, hours: list[float]) -> None:
    for stray in ((), ("late",)):
        # Strays are few among many different times.
        many = [*cells, *stray, *(f"{i % 20}:{i % 60:02d}" for i in range(N))][:N]
        (column,) = understood(tmp_path, {"y": VALUES, "at": many}).columns
        assert column.role == role
        assert column.numbers is not None
        assert column.numbers[:3, 0] == pytest.approx(hours)
        assert bool(np.isnan(column.numbers[3, 0])) is bool(stray)


def test_two_numbers_in_a_cell_are_two(tmp_path: Path) -> None:
    found = understood(tmp_path, {"y": VALUES, "bp": [f"{110 + i % 30}/{70 + i % 17}" for i in range(N)]})
    (column,) = found.columns
    assert column.numbers is not None
    assert column.numbers[:2].tolist() == [[110, 70], [111, 71]]
    assert said(found, "'bp' '110/70' became two numbers, 110 and 70")
    assert found.arrays().feature_names == ["bp.0", "bp.1"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["€5.10", "$7.25"], "several currencies or units ('$', '€')"),
        (["5.1 kg", "11 lb"], "'kg', 'lb'"),
        (["5.5%", "7.25"], "none, '%'"),
        (["13/02/20", "02/13/20"], "'02/13/20' can only be month first, '13/02/20' only day first"),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path: Path, cells: list[str], words: str) -> None:
    found = understood(tmp_path, {"y": VALUES, "x": [cells[i % 2] for i in range(N)]})
    assert [column.role for column in found.columns] == ["category"]
    assert said(found, "'x'", words, "read as text")
    many = [cells[i % 2].replace("5", str(i + 5), 1) if "/" not in cells[0] else cells[i % 2] for i in range(N)]
    assert said(understood(tmp_path, {"y": VALUES, "a": VALUES, "x": many}), "'x'", "read as text")


def test_a_few_dates_of_the_other_order_are_named(tmp_path: Path) -> None:
    dates = [f"{i % 28 + 1:02d}/{i % 12 + 1:02d}/20" for i in range(N)]
    dates[7] = "02/13/20"
    found = understood(tmp_path, {"y": VALUES, "d": dates})
    assert found.columns[0].role == "date"
    assert said(found, "'02/13/20' can only be month first")


def test_classes_that_differ_only_in_case_are_warned_of(tmp_path: Path) -> None:
    sexes = ["Male", "male", "MALE ", "Female", "female"]
    found = understood(tmp_path, {"y": [sexes[i % 5] for i in range(N)], "a": VALUES})
    assert said(found, "Warning alike_classes", "'Female', 'female', 'MALE', 'Male', 'male'")
    assert said(
        understood(tmp_path, {"y": VALUES, "sex": [sexes[i % 5] for i in range(N)]}), "'sex' differ only in case"
    )
    assert not said(understood(tmp_path, {"y": ["a", "b"] * (N // 2), "a": VALUES}), "alike_classes")


@pytest.mark.parametrize(
    ("cells", "seen"),
    [
        (["01:07", "23:10", "12:00", "4:30 pm"], ("01:07", "14:15", "23:10", ["01:07", "23:10", "12:00"])),
        (["9:05:30", "10:00:00"], ("09:05:30", "09:32:45", "10:00:00", ["09:05:30", "10:00:00", "09:05:30"])),
        (["0:59", "26:05"], ("0:59", "13:32", "26:05", ["0:59", "26:05", "0:59"])),
        (["1:00:01", "100:30:00"], ("1:00:01", "50:45:00", "100:30:00", ["1:00:01", "100:30:00", "1:00:01"])),
    ],
)
def test_times_are_shown_as_times(tmp_path: Path, cells: list[str], seen: tuple[str, str, str, list[str]]) -> None:
    table = {"y": np.arange(N) % 2, "t": [cells[i % len(cells)] for i in range(N)]}
    glances = {one.name: one for one in preview_of(understood(tmp_path, table))}
    found = glances["t"]
    assert (found.least, found.middle, found.most, found.examples) == seen
    plain = preview(FileDataset(path=str(tmp_path / "t.csv"), target="y"), None).columns[1]
    assert (plain.least, plain.middle, plain.most, plain.examples) == seen
