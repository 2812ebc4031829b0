"""A delimited text is counted as it is read, no further than tables may be, whatever is in it."""

from __future__ import annotations

import gzip
import io

import pytest

from optim_core.data.readers import refusals
from optim_core.data.readers.unpack import unpacked
from optim_core.spec.errors import DataError
from service.operations import csv_size
from service.operations.csv_size import count_lines


def refused(content: bytes) -> tuple[str, int]:
    """The code, and how much was read until then."""
    file = io.BytesIO(content)
    with pytest.raises(DataError) as caught:
        count_lines(file, "t.csv")
    return caught.value.code, file.tell()


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", 0), (b"a", 1), (b"a\n", 1), (b"a\r\nb\r\nc", 3), (b"a\rb\r", 2), (b"\n\n", 2), (b'"a\nb"\n', 2), (b"\r\n", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 20])
def test_lines_are_those_of_the_whole_text_however_it_is_cut(
    content: bytes, lines: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_size, "_PIECE", piece)
    assert count_lines(io.BytesIO(content), "t.csv") == lines


def test_reading_stops_where_there_are_more_cells_than_a_table_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_CELLS", 1_000_000)
    code, read = refused(b"1\n" * 20_000_000)
    assert (code, read) == ("too_large", 2 << 20)
    # Four fields a row: a quarter of the rows are as many cells.
    code, read = refused(b"a,b,c,d\n" + b"1,2,3,4\n" * 5_000_000)
    assert (code, read) == ("too_large", 2 << 20)
    assert count_lines(io.BytesIO(b"a,b,c,d\n" + b"1,2,3,4\n" * 249_999), "t.csv") == 250_000
    for text in ("a;b\r\n1;2\r\n", "a\tb\r1\t2\r"):
        assert refused(text.encode() * 300_000)[0] == "too_large"
        assert refused((text * 300_000).encode("utf-16"))[0] == "too_large"


def test_lines_within_quotes_are_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_CELLS", 1000)
    many = b'a,b\n"' + b'one ""\n' * 5000 + b'",2\n'
    assert count_lines(io.BytesIO(many), "t.csv") == 5002
    # One that never ends is left to whoever reads the table, and costs no more than any other text.
    assert count_lines(io.BytesIO(b'a,b\n"' + b"1,2\n" * 5000), "t.csv") == 5001


def test_a_long_line_is_refused_where_it_is_too_long() -> None:
    code, read = refused(b"a,b\n" + b"x" * (20 << 20))
    assert (code, read) == ("malformed_table", 9 << 20)


def test_what_is_packed_is_not_unpacked_any_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_CELLS", 1_000_000)
    packed = io.BytesIO(gzip.compress(b"1\n" * 30_000_000, 1))
    with pytest.raises(DataError) as caught:
        count_lines(unpacked(packed, "t.csv.gz"), "t.csv.gz")
    assert caught.value.code == "too_large"
    assert packed.tell() < len(packed.getvalue()) / 2
