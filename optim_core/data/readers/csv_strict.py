"""Delimited text by one strict parser, row by row: it takes what the fast one takes, and its refusals name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from optim_core.data.limits import MAX_LINE_BYTES
from optim_core.data.readers.layout import bare, dialect
from optim_core.data.readers.refusals import check_cells, malformed
from optim_core.data.text import plural

_FLUSH_CELLS = 500_000


def read_strict(
    stream: BinaryIO, name: str, delimiter: str, width: int, first: int
) -> tuple[list[pd.Series], list[str]]:
    """The rows of ``stream`` (UTF-8) as ``width`` columns of strings, untouched, and sentences. ``first``: lines before it.

    A line that begins with ``#`` and is no row of the table is a comment. Raises DataError ``malformed_table`` (ragged row,
    broken quote, NUL, lone CR) and ``too_large``; each names the line.
    """
    reader = csv.reader(map(bare(delimiter), _lines(stream, name, first)), strict=True, **dialect(delimiter))
    rows = _Rows(width)
    comments = 0
    try:
        for row in reader:
            if not row or (width > 1 and len(row) == 1 and not row[0].strip()):
                continue
            if len(row) != width:
                if row[0].startswith("#"):
                    comments += 1
                    continue
                raise _refused(name, first + reader.line_num, f"has {len(row)} fields where the header has {width}")
            rows.add(row)
            if rows.count % 1000 == 0:
                check_cells(name, rows.count, width)
    except csv.Error as error:
        raise _refused(name, first + reader.line_num, str(error)) from None
    check_cells(name, rows.count, width)
    report = [f"Passed over {plural(comments, 'comment')} among the rows."] if comments else []
    return rows.columns(), report


class _Rows:
    """Rows become columns a few at a time: lists of strings take ten times the room."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._rows: list[list[str]] = []
        self._chunks: list[list[pa.Array]] = [[] for _ in range(width)]

    def add(self, row: list[str]) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) * len(row) >= _FLUSH_CELLS:
            self._flush()

    def columns(self) -> list[pd.Series]:
        self._flush()
        return [as_strings(chunks) for chunks in self._chunks]

    def _flush(self) -> None:
        if not self._rows:
            return
        for chunk, cells in zip(self._chunks, zip(*self._rows, strict=True), strict=True):
            chunk.append(pa.array(cells, type=pa.large_string()))
        self._rows.clear()


def as_strings(chunks: list[pa.Array]) -> pd.Series:
    """A column of strings from its parts."""
    return pd.Series(pd.array(pa.chunked_array(chunks, type=pa.large_string()), dtype="str"))


def _lines(stream: BinaryIO, name: str, number: int) -> Iterator[str]:
    while piece := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(piece) > MAX_LINE_BYTES:
            raise _refused(name, number, f"longer than {MAX_LINE_BYTES:,} bytes")
        if b"\0" in piece:
            raise _refused(name, number, "holds a NUL byte")
        body = piece.decode("utf-8").removesuffix("\n").removesuffix("\r")
        if "\r" in body:
            raise _refused(name, number, "holds a carriage return that ends no line")
        yield body + "\n"


def _refused(name: str, line: int, what: str) -> Exception:
    return malformed(name, f", line {line}: {what}")
