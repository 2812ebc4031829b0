"""Where a table begins: what separates its fields, which row or rows hold the names, which sheet, and what is no row of it."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from optim_core.data import Understood, understand
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.validation import parse_spec

N = 60
RNG = np.random.default_rng(5)
X = np.round(RNG.normal(size=N), 3)


def read(folder: Path, content: bytes | str, name: str = "t.csv", target: str = "y", **how: Any) -> Understood:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return understand(parse_spec({"model": "mlp", "dataset": {"path": str(path), "target": target, **how}}))


def refused(folder: Path, content: bytes | str, name: str = "t.csv", **how: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def said(found: Understood, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in found.report)


def lines(*names: str, row: str, sep: str) -> str:
    """A table whose ``row`` is made of its number, a value and the target, ``sep`` standing for what separates fields."""
    rows = (row.format(i=i % 7, v=X[i], y=i % 2).replace("~", sep) for i in range(N))
    return "\n".join([sep.join(names), *rows]) + "\n"


# What separates


@pytest.mark.parametrize("sep", [";", "\t", "|"])
@pytest.mark.parametrize(
    ("names", "row"),
    [
        (("name", "ort", "y"), "Meier, A{i}~Bern, CH~{y}"),
        (("prix", "surface", "y"), "CHF 9567,{i}~12,3~{y}"),
        (("prix", "surface", "y"), "9\u202f567,{i} €~191,3~{y}"),
        (("a", "y"), "eins, zwei, drei {i}~{y}"),
        (("a", "b", "y"), "1,{i}~2,5~{y}"),
        (("name, first", "ort, land", "y"), "Meier, A{i}~Bern, CH~{y}"),
        (("a", "b", "c", "y"), "u, v, w, x {i}~{i}~{v}~{y}"),
    ],
    ids=["texts", "currencies", "spaces", "more commas than fields", "decimals", "commas in the names", "one column"],
)
def test_commas_within_fields_separate_nothing(tmp_path: Path, sep: str, names: tuple[str, ...], row: str) -> None:
    found = read(tmp_path, lines(*names, row=row, sep=sep))
    assert found.names == list(names[:-1])
    assert found.target.classes == ["0", "1"]
    assert not said(found, "above the names")


def test_a_title_is_passed_over_still(tmp_path: Path) -> None:
    found = read(tmp_path, "Sales; all of 2020\n" + lines("a", "b", "y", row="{i}~{v}~{y}", sep=","))
    assert found.names == ["a", "b"]
    assert said(found, "Passed over 1 line above the names")


# Names


def test_names_in_two_rows_are_joined(tmp_path: Path) -> None:
    rows = [["Region", "Sales", None, "y"], [None, 2019, 2020, None]]
    values = [["NS"[i % 2], float(X[i]), float(X[-i]), i % 2] for i in range(N)]
    found = read(tmp_path, sheets({"s": [*rows, *values]}), "t.xlsx")
    assert found.names == ["Region", "Sales 2019", "Sales 2020"]
    assert said(found, "stand in two rows", "'Sales 2019'")
    text = "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in [*rows, *values])
    assert read(tmp_path, text).names == found.names
    # A name that somebody asks for is never joined away.
    assert read(tmp_path, text.replace("Sales,,y", "y,,label"), target="y").target_name == "y"


@pytest.mark.parametrize(
    "head",
    [["a,,y", "1.5,2.5,0"], ["a,,y", "1.5,NA,0"], [",a,y", "row 1,,0"], ["a,,y", "1.5,,0"]],
)
def test_a_row_of_values_is_no_second_row_of_names(tmp_path: Path, head: list[str]) -> None:
    text = "\n".join([*head, *(f"{X[i]},{X[-i]},{i % 2}" for i in range(1, N))])
    found = read(tmp_path, text)
    assert not said(found, "two rows")
    assert len(found.target.values) == N


@pytest.mark.parametrize("units", ["[m],(°C),", "kg,m/s,-", "€,µg/m³,"])
def test_a_row_of_units_is_announced_and_no_row(tmp_path: Path, units: str) -> None:
    text = "\n".join(["a,b,y", units, *(f"{X[i]},{X[-i]},{i % 2}" for i in range(N))])
    found = read(tmp_path, text)
    assert said(found, "holds units", units.split(",")[0])
    assert len(found.target.values) == N
    assert {column.role for column in found.columns} == {"number"}
    assert not said(found, "count as missing")


@pytest.mark.parametrize("first", ["<0.1,2.5,0", "NA,null,0", "1.5,missing,1", "unknown,unknown,1"])
def test_a_first_row_with_strays_is_a_row(tmp_path: Path, first: str) -> None:
    text = "\n".join(["a,b,y", first, *(f"{X[i]},{X[-i]},{i % 2}" for i in range(N))])
    found = read(tmp_path, text)
    assert not said(found, "units")
    assert len(found.target.values) == N + 1


def test_a_file_without_names(tmp_path: Path) -> None:
    text = "\n".join(f"{X[i]},{X[-i]},{'ab'[i % 2]}" for i in range(N))
    message = refused(tmp_path, text)
    assert "look like a row of the table" in message
    assert "header: none (--header none)" in message
    found = read(tmp_path, text, header="none", target="column 3")
    assert len(found.target.values) == N
    assert found.names == ["column 1", "column 2"]
    found = read(tmp_path, text, target="a")
    assert said(found, "Warning first_row", "--header none")
    book = sheets({"s": [[float(X[i]), "uv"[i % 2], i % 2] for i in range(N)]})
    assert len(read(tmp_path, book, "t.xlsx", header="none", target="column 3").target.values) == N
    comment = "# made by hand\n" + text
    assert len(read(tmp_path, comment, header="none", target="column 3").target.values) == N


@pytest.mark.parametrize("names", ["2019,2020,2021", "a,b,0", "id,1,y"])
def test_names_that_are_years_or_words_are_names(tmp_path: Path, names: str) -> None:
    text = "\n".join([names, *(f"{X[i]},{X[-i]},{i % 2}" for i in range(N))])
    assert not said(read(tmp_path, text, target=names.split(",")[-1]), "first_row")


def test_options_that_do_not_fit_the_format(tmp_path: Path) -> None:
    text = lines("a", "b", "y", row="{i}~{v}~{y}", sep=",")
    assert "sheet is for xlsx" in refused(tmp_path, text, sheet="s")
    assert "header is for xlsx and csv" in refused(tmp_path, '{"a": 1}', "t.json", header="none")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_the_same_however_its_accents_are_written(tmp_path: Path, form: Any) -> None:
    other = unicodedata.normalize("NFC" if form == "NFD" else "NFD", "Tél")
    name = unicodedata.normalize(form, "Tél")
    text = "\n".join([f"{name},b,y", *(f"{X[i]},{X[-i]},{i % 2}" for i in range(N))])
    assert read(tmp_path, text, features=[other]).names == ["Tél"]
    assert read(tmp_path, text, target=other).target_name == "Tél"
    out = io.BytesIO()
    np.savez(out, **{name: np.arange(N) % 2, "x": X})
    assert read(tmp_path, out.getvalue(), "t.npz", target=other).target_name == "Tél"


# Sheets


def sheets(content: dict[str, list[list[Any]]]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    del book[book.sheetnames[0]]
    for title, rows in content.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(out)
    return out.getvalue()


COVER = [["Bericht"], ["von Anna"]]
TABLE = [["a", "y"], *([float(X[i]), i % 2] for i in range(N))]


def test_the_sheet_with_the_target_is_the_one(tmp_path: Path) -> None:
    book = sheets({"Deckblatt": COVER, "Preise": [["p", "q"], [1, 2]], "Daten": TABLE})
    found = read(tmp_path, book, "t.xlsx")
    assert len(found.target.values) == N
    assert said(found, "Read the sheet 'Daten', which is one of 3 (the others: 'Deckblatt', 'Preise')")
    message = refused(tmp_path, book, "t.xlsx", target="z")
    assert "the columns are 'p', 'q'" in message
    assert "read the sheet 'Preise'" in message
    assert "'Daten'" in message
    twice = sheets({"eins": TABLE, "zwei": [*TABLE, [1.0, 1]]})
    assert said(read(tmp_path, twice, "t.xlsx"), "'eins'", "sheet: says which")
    assert len(read(tmp_path, twice, "t.xlsx", sheet="zwei").target.values) == N + 1
    assert "did you mean 'zwei'" in refused(tmp_path, twice, "t.xlsx", sheet="zwie")


def test_formulas_that_nobody_calculated(tmp_path: Path) -> None:
    rows = [[float(X[i]), f"=A{i + 2}*2", i % 2] for i in range(N)]
    found = read(tmp_path, sheets({"s": [["a", "b", "y"], *rows]}), "t.xlsx")
    assert said(found, "Warning formulas", "'b'", "no stored values")
    message = refused(tmp_path, sheets({"s": [["a", "b", "y"], *rows]}), "t.xlsx", target="b")
    assert "formulas" in message
    assert "save it" in message
    gaps = [[None if i % 5 == 0 else float(X[i]), float(X[-i]), i % 2] for i in range(N)]
    assert not said(read(tmp_path, sheets({"s": [["a", "b", "y"], *gaps]}), "t.xlsx"), "formulas")


# Damage


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("5,p,50%d", "line 66: Invalid numerical value"), ("5,p", "line 66"), ("5,%s,1", "line 66"),
        ("x,p,1", "line 66: Invalid numerical value"),
        ("5,r,1", "line 66: Data value r not found"), ("'5,p,1", "line 66"),
    ],
)  # fmt: skip
def test_arff_that_is_wrong_names_the_line(tmp_path: Path, row: str, words: str) -> None:
    rows = [f"{X[i]},{'pq'[i % 2]},{i % 2}" for i in range(N)]
    head = ["@relation t", "@attribute a real", "@attribute c {p,q}", "@attribute y real", "@data"]
    message = refused(tmp_path, "\n".join([*head, *rows, row, *rows]), "t.arff")
    assert words in message
    assert "-1" not in message


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.parquet", "t.feather", "t.xlsx", "t.arff", "t.npz"])
def test_whatever_a_reader_trips_over_is_a_clear_error(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return "%d" % "x"  # noqa: UP031

    def trip(*_: Any, **__: Any) -> Any:
        raise Odd

    monkeypatch.setattr("optim_core.data.source.read_table", trip)
    monkeypatch.setattr("optim_core.data.source.read_npz", trip)
    monkeypatch.setattr("optim_core.data.source.check_magic", lambda *_: None)
    assert "cannot be read as" in refused(tmp_path, "x", name)

    def starve(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("optim_core.data.source.read_table", starve)
    monkeypatch.setattr("optim_core.data.source.read_npz", starve)
    with pytest.raises(MemoryError):
        read(tmp_path, "x", name)


@pytest.mark.parametrize("sep", ["^", "~", "\x01"])
def test_rare_signs_that_separate_are_found(tmp_path: Path, sep: str) -> None:
    found = read(tmp_path, lines("a", "b", "y", row="{i}~{v}~{y}", sep=sep))
    assert found.names == ["a", "b"]
    assert len(found.target.values) == N


@pytest.mark.parametrize("sep", ["^", "#", "§", "!", "&", "/"])
def test_any_sign_may_separate_that_is_said(tmp_path: Path, sep: str) -> None:
    text = lines("a", "b", "y", row="{i}~{v}~{y}", sep=sep)
    assert read(tmp_path, text, sep=sep).names == ["a", "b"]
    if sep != "^":
        message = refused(tmp_path, text)
        assert "It was read as one column" in message
        assert "--sep" in message


@pytest.mark.parametrize("sep", ["a", "7", ".", '"', "ab", "", "\n"])
def test_what_stands_in_fields_separates_none(sep: str) -> None:
    with pytest.raises(SpecError, match="is not one sign that may stand between fields"):
        parse_spec({"model": "mlp", "dataset": {"path": "t.csv", "target": "y", "sep": sep}})


def test_a_decimal_mark_that_is_the_other_one_is_named(tmp_path: Path) -> None:
    for step in (1, 2):
        rows = [f"{i % 7};{abs(X[i]) + i // step * step:.2f}".replace(".", ",") for i in range(N)]
        message = refused(tmp_path, "\n".join(["a;y", *rows, *rows[: 10 * step - 10]]), decimal=".")
        assert "numbers with decimal commas, such as '" in message
        assert "decimal: ',' (--decimal) reads them" in message
