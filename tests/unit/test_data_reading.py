"""Files as people have them: encodings, lines above the names, odd names, columns of no use, and files that would do harm."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import Arrays, limits, prepare
from optim_core.data.notation import Missing
from optim_core.data.readers import arrow_columns, csv_reader, unpack, zip_check
from optim_core.data.readers.csv_reader import read_csv
from optim_core.spec.errors import DataError
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

N = 60
RNG = np.random.default_rng(3)
X = np.round(RNG.normal(size=N), 3)
ROWS = [f"{v},{'é' if i % 3 else 'b'},{i % 2}" for i, v in enumerate(X)]
PLAIN = "\n".join(["a,c,y", *ROWS]) + "\n"


def read(folder: Path, content: bytes | str, name: str = "t.csv", target: str = "y", **how: Any) -> Arrays:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return prepare(
        StudySpec(model=CatalogueModel(name="mlp"), dataset=FileDataset(path=str(path), target=target, **how))
    )


def refused(folder: Path, content: bytes | str, name: str = "t.csv", **how: Any) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **how)
    assert "\n" not in str(caught.value)
    return caught.value.code, str(caught.value)


def said(arrays: Arrays, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in arrays.report)


@pytest.mark.parametrize(
    ("encoding", "name"), [("latin-1", "Windows-1252"), ("cp1252", "Windows-1252"), ("utf-16", "UTF-16")]
)
def test_an_encoding_is_found_and_said(tmp_path: Path, encoding: str, name: str) -> None:
    found = read(tmp_path, PLAIN.encode(encoding))
    assert found.hash == read(tmp_path, PLAIN).hash
    assert "c=é" in found.feature_names or "c_é" in found.feature_names
    assert said(found, f"read as {name}", "encoding:")
    assert not said(read(tmp_path, PLAIN), "read as")


def test_an_encoding_that_is_given(tmp_path: Path) -> None:
    # The byte of é in MacRoman is Ž in Windows-1252.
    found = read(tmp_path, PLAIN.encode("mac_roman"), encoding="mac_roman")
    assert found.feature_names == read(tmp_path, PLAIN).feature_names
    code, message = refused(tmp_path, PLAIN.encode("latin-1"), encoding="utf-8")
    assert code == "malformed_table"
    assert "is not in the encoding utf-8: byte" in message
    with pytest.raises(ValueError, match="there is no encoding 'klingon'"):
        FileDataset(path="t.csv", target="y", encoding="klingon")


def test_bytes_that_are_no_windows_1252_are_latin_1(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN.replace("é", "\x81é").encode("latin-1"))
    assert said(found, "read as Latin-1")


@pytest.mark.parametrize(
    "above",
    ["Sales of 2020\n", "Sales of 2020\nby city\n\n", "Sales of 2020,,\n,,\n", "# made by hand\n#\n", "\n\n  \n",
     '"Sales, ""all"" of 2020"\n', "# source: ACME, Inc.\n"],
)  # fmt: skip
def test_lines_above_the_names(tmp_path: Path, above: str) -> None:
    found = read(tmp_path, above + PLAIN)
    assert found.hash == read(tmp_path, PLAIN).hash
    assert said(found, "above the names") == bool(above.strip())


def test_comments_and_blank_lines_among_the_rows(tmp_path: Path) -> None:
    lines = PLAIN.splitlines()
    lines[5:5] = ["# looked at until here", "", "   "]
    found = read(tmp_path, "\n".join(lines))
    assert found.hash == read(tmp_path, PLAIN).hash
    assert said(found, "1 comment among the rows")
    colours = [f"#{i % 3}f{i % 3}f00,{v},{i % 2}" for i, v in enumerate(X)]
    found = read(tmp_path, "\n".join(["colour,a,y", *colours]))
    assert sum(name.startswith("colour") for name in found.feature_names) == 3


def test_names_that_are_a_comment(tmp_path: Path) -> None:
    rows = "\n".join(f"{v} {v * v:.4f} {i % 2}" for i, v in enumerate(X))
    found = read(tmp_path, f"# a b y\n{rows}", "t.txt")
    assert found.feature_names == ["a", "b"]
    assert said(found, "separated by spaces")


def test_a_delimiter_at_the_end_and_rows_with_names(tmp_path: Path) -> None:
    expected = read(tmp_path, PLAIN).hash
    assert read(tmp_path, PLAIN.replace("\n", ",\n")).hash == expected
    found = read(tmp_path, PLAIN.replace("\n", ",\n").replace("y,\n", "y\n", 1))
    assert found.hash == expected
    assert said(found, "Left out 'column 4'", "no values")
    named = "a,c,y\n" + "".join(f"row {i},{row}\n" for i, row in enumerate(ROWS))
    assert said(read(tmp_path, named), "Left out 'column 1'")


def test_names_are_cleaned_alike_everywhere(tmp_path: Path) -> None:
    frame = pd.DataFrame({" a ": X, "'b'": X**2, "\ufeffy": [i % 2 for i in range(N)]})
    frame.to_parquet(tmp_path / "p.parquet", index=False)
    feather.write_feather(frame, tmp_path / "f.feather")
    frame.to_excel(tmp_path / "e.xlsx", index=False)
    frame.to_json(tmp_path / "j.json", orient="records")
    frame.to_csv(tmp_path / "c.csv", index=False)
    for path in list(tmp_path.iterdir()):
        assert read(tmp_path, path.read_bytes(), path.name).feature_names == ["a", "b"], path.name


def test_columns_of_one_name(tmp_path: Path) -> None:
    content = "a,a,y,\n" + "".join(f"{v},{v * v},{i % 2},{v**3}\n" for i, v in enumerate(X))
    found = read(tmp_path, content)
    assert found.feature_names == ["a", "a.1", "column 4"]
    assert said(found, "Several columns are named 'a'")
    assert refused(tmp_path, content, features=["a"])[0] == "duplicate_column"
    assert refused(tmp_path, content.replace("y", "a"), target="a")[0] == "duplicate_column"


def test_what_is_no_column_of_a_parquet_is_left_out_and_durations_are_seconds(tmp_path: Path) -> None:
    table = {
        "tags": pa.array([[1, 2]] * N), "point": pa.array([{"a": 1}] * N), "raw": pa.array([b"x"] * N),
        "took": pa.array(np.arange(N) * 1500, pa.duration("ms")), "a": pa.array(X), "y": pa.array(np.arange(N) % 2),
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    feather.write_feather(pa.table(table), tmp_path / "f.feather")
    seconds = pd.DataFrame({"took": np.arange(N) * 1.5, "a": X, "y": np.arange(N) % 2})
    expected = read(tmp_path, seconds.to_csv(index=False)).hash
    for name in ("p.parquet", "f.feather"):
        found = read(tmp_path, (tmp_path / name).read_bytes(), name)
        assert found.hash == expected
        assert said(found, "Left out 'tags': the type list")
        assert said(found, "Left out 'point'")
        assert said(found, "Left out 'raw'")
        assert said(found, "The durations of 'took' became seconds")


def test_json_with_nested_values_and_gaps(tmp_path: Path) -> None:
    lines = [f'{{"a": {v}, "y": {i % 2}, "tags": [1], "b": {"null" if i % 4 else i}}}' for i, v in enumerate(X)]
    lines[3] = '{"y": 1, "a": 0.5, "late": 7}'
    found = read(tmp_path, "\n".join(lines), "t.jsonl")
    assert said(found, "Left out 'tags'")
    assert {"a", "b"} < set(found.feature_names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": }', "line 2: Expecting value"), ("[1, 2]", "a record is needed"),
        ('[{"a": 1}', "does not end|missing"),
        ("[" * 100_000, "nested too deeply|record is needed|Expecting"), ('[{"a": 1} {"a": 2}]', "a comma"), ("{}", "empty"),
        ('[{"a": 1}] x', "something follows"), ('{"a": [1], "b": [1, 2]}', "different lengths"),
    ],
)  # fmt: skip
def test_json_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, "t.json")


def test_how_a_table_is_read_can_be_said(tmp_path: Path) -> None:
    content = "a:y\n" + "".join(f"{v}:{i % 2}\n" for i, v in enumerate(X))
    assert read(tmp_path, content, sep=":").feature_names == ["a"]
    thousands = "a;y\n" + "".join(f"{i * i % 90 + 1},{i * 7 % 900 + 100};{i % 2}\n" for i in range(N))
    comma, point = read(tmp_path, thousands), read(tmp_path, thousands, decimal=".")
    assert comma.x_train.shape == point.x_train.shape
    assert said(comma, "counts as 1.1")
    assert said(point, "counts as 1100")
    coded = "a,y\n" + "".join(f"{-999 if i % 5 == 0 else v},{i % 2}\n" for i, v in enumerate(X))
    assert read(tmp_path, coded).feature_names == ["a", "missingindicator_a"]
    assert read(tmp_path, coded, na=["NA"]).feature_names == ["a"]
    assert read(tmp_path, coded, na=["-999"]).feature_names == ["a", "missingindicator_a"]
    frame = pd.read_csv(io.StringIO(coded))
    frame.to_parquet(tmp_path / "n.parquet", index=False)
    typed = read(tmp_path, (tmp_path / "n.parquet").read_bytes(), "n.parquet", na=["-999"])
    assert typed.hash == read(tmp_path, coded, na=["-999"]).hash
    names = "c,a,y\n" + "".join(f"{('NA', 'DE', 'None')[i % 3]},{v},{i % 2}\n" for i, v in enumerate(X))
    assert sum(name.startswith("c") for name in read(tmp_path, names, na=[]).feature_names) == 3


def test_a_spreadsheet_says_which_sheet_it_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "notes"
    sheet = book.create_sheet("figures")
    sheet.append(["Quarterly report"])
    sheet.append([])
    sheet.append(["a", "when", "y"])
    for i, v in enumerate(X):
        sheet.append([float(v), pd.Timestamp("2020-01-01") + pd.Timedelta(days=i), i % 2])
    book.save(tmp_path / "t.xlsx")
    found = read(tmp_path, (tmp_path / "t.xlsx").read_bytes(), "t.xlsx")
    assert said(found, "Read the sheet 'figures', which is one of 2 (the others: 'notes').")
    assert said(found, "above the names, such as 'Quarterly report'")
    assert said(found, "dates of 'when'")


# --- files that would do harm


def bomb(size: int) -> bytes:
    return gzip.compress(PLAIN.encode() + b"1,b,0\n" * (size // 6))


def test_a_gzip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 1 << 20)
    assert refused(tmp_path, bomb(2 << 20), "t.csv.gz")[0] == "too_large_unpacked"
    content = gzip.compress(PLAIN.encode())
    assert refused(tmp_path, content[:-9], "t.csv.gz")[0] == "malformed_table"
    assert "broken gzip" in refused(tmp_path, content[:40] + b"\0\0\0" + content[43:], "t.csv.gz")[1]


def sheet(xml: str, **parts: str) -> bytes:
    out, made = io.BytesIO(), io.BytesIO()
    openpyxl.Workbook().save(made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            body = xml.encode() if entry.filename.endswith("sheet1.xml") else old.read(entry)
            new.writestr(entry.filename, body)
    return out.getvalue()


SPREAD = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


def test_spreadsheets_that_would_do_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY e SYSTEM "file:///etc/passwd">]>'
    code, message = refused(tmp_path, sheet(entity + SPREAD.format("<row><c><v>&e;</v></c></row>")), "t.xlsx")
    assert code == "malformed_table"
    assert "document type" in message
    far = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    assert refused(tmp_path, sheet(SPREAD.format(far)), "t.xlsx")[0] in ("target_missing", "too_many_columns")
    monkeypatch.setattr(zip_check, "MAX_UNPACKED_BYTES", 1 << 20)
    long = SPREAD.format("<row><c><v>1</v></c></row>" * 100_000)
    assert refused(tmp_path, sheet(long), "t.xlsx")[0] == "too_large_unpacked"


def test_arrow_files_that_claim_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "z.feather"
    feather.write_feather(pd.DataFrame({"a": np.zeros(500_000), "y": np.zeros(500_000)}), path, compression="zstd")
    content = path.read_bytes()
    assert len(content) < 100_000
    # A buffer that says that it unpacks to an exabyte is refused before memory is taken for it.
    said_size = struct.pack("<q", 4_000_000)
    assert said_size in content or struct.pack("<q", 524_288) in content
    for claimed in (said_size, struct.pack("<q", 524_288)):
        lying = content.replace(claimed, struct.pack("<q", 1 << 60))
        if lying != content:
            assert refused(tmp_path, lying, "l.feather")[0] in ("too_large_unpacked", "malformed_table")
    monkeypatch.setattr("optim_core.data.readers.arrow_reader.MAX_UNPACKED_BYTES", 1 << 20)
    assert refused(tmp_path, content, "z.feather")[0] == "too_large_unpacked"
    monkeypatch.undo()
    monkeypatch.setattr(arrow_columns, "MAX_UNPACKED_BYTES", 1 << 20)
    assert refused(tmp_path, content, "z.feather")[0] == "too_large_unpacked"


def test_a_table_over_the_limit_of_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optim_core.data.readers.refusals.MAX_CELLS", 100)
    assert refused(tmp_path, PLAIN)[0] == "too_large"
    assert limits.MAX_CELLS > 100


# --- two parsers, one language

CELLS = st.sampled_from(["1", "2.5", "", "a", 'say ""hi""', "x,y", "two\nlines", " b ", "NA", "007", "é", "-", "#x"])


def parsed(content: bytes, fast: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        if not fast:
            patch.setattr(csv_reader, "in_order", lambda *_: False)
        try:
            layout, columns, _ = read_csv(io.BytesIO(content), "t", sep=None, encoding=None, missing=Missing.of(None))
        except DataError as error:
            return str(error)
    return layout.header, [
        [None if cell in (None, "") or cell != cell else str(cell) for cell in c.tolist()] for c in columns
    ]


def as_floats(found: Any) -> Any:
    """The cells with each number as a number: the fast parser makes numbers of plain columns at once."""
    if isinstance(found, str):
        return found

    def value(cell: str | None) -> Any:
        try:
            return None if cell in (None, "NA", "-") else float(cell or "")
        except ValueError:
            return cell

    return found[0], [[value(cell) for cell in column] for column in found[1]]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12), quoted=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]), cut=st.none() | st.integers(1, 200),
    odd=st.sampled_from([b"", b'"', b"\r", b"\0", b"\n\n", b"#,"]),
    place=st.integers(0, 200),
)  # fmt: skip
def test_the_fast_parser_takes_what_the_strict_one_takes(
    rows: list[list[str]], quoted: bool, ending: str, cut: int | None, odd: bytes, place: int
) -> None:
    lines = [",".join(f'"{cell}"' if quoted or set(cell) & {",", "\n", '"'} else cell for cell in row) for row in rows]
    content = ending.join(["a,b,c", *lines, ""]).encode()
    content = (content[:place] + odd + content[place:])[:cut]
    with pytest.MonkeyPatch.context() as monkeypatch:
        fast, strict = parsed(content, True, monkeypatch), parsed(content, False, monkeypatch)
    assert as_floats(fast) == as_floats(strict)


def test_a_column_that_turns_out_to_be_text_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optim_core.data.readers.csv_fast._BLOCK", 1 << 12)
    rows = [f"{i},{i},{'x' if i == 4000 else i}" for i in range(5000)]
    _, columns, _ = read_csv(
        io.BytesIO("\n".join(["a,b,c", *rows]).encode()), "t", sep=None, encoding=None, missing=Missing.of(None)
    )
    assert [str(column.dtype) for column in columns] == ["int64", "int64", "str"]
    assert columns[2].tolist() == [row.split(",")[2] for row in rows]
    assert columns[0].tolist() == list(range(5000))


def test_readers_of_rarer_formats_are_imported_when_one_comes() -> None:
    heavy = ["openpyxl", "arff", "pyarrow.parquet", "pyarrow.feather", "sklearn", "torch"]
    program = f"import sys, optim_core.data; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mark", [",", " ", "\t", ";"])
def test_a_dat_file_is_delimited_text(tmp_path: Path, mark: str) -> None:
    assert read(tmp_path, PLAIN.replace(",", mark), "t.dat").hash == read(tmp_path, PLAIN).hash
