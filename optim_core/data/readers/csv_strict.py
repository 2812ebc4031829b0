"""Delimited text by one strict parser, row by row: it takes what the fast one takes, and its refusals name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from optim_core.data.limits import MAX_LINE_BYTES
from optim_core.data.readers.layout import Layout, bare, dialect
from optim_core.data.readers.ragged import Ragged
from optim_core.data.readers.refusals import check_cells, malformed
from optim_core.data.text import plural

_FLUSH_CELLS = 500_000


def read_strict(stream: BinaryIO, name: str, width: int, layout: Layout) -> tuple[list[pd.Series], list[str]]:
    """The rows of ``stream`` (UTF-8) below the lines of ``layout`` as ``width`` columns of strings, untouched, and sentences.

    Lines that are no rows are passed over: comments, ruled lines, the names once more, pages' titles, and what stands below the
    last row. A few rows may lack fields at their end, and have empty ones too many. Raises DataError ``malformed_table`` (other
    ragged rows, broken quote, NUL, lone CR) and ``too_large``; each names the line.
    """
    first = layout.lines
    reader = csv.reader(
        map(bare(layout.delimiter), _lines(stream, name, first)), strict=True, **dialect(layout.delimiter)
    )
    rows = _Rows(width)
    ragged = Ragged(rows.add, width, layout.heads)
    try:
        for row in reader:
            if len(row) == width:
                ragged.settle(row)
                rows.add(row)
                if rows.count % 1000 == 0:
                    check_cells(name, rows.count, width)
            elif not ragged.take(row, first + reader.line_num):
                raise _refused(name, first + reader.line_num, _uneven(row, width))
    except csv.Error as error:
        raise _refused(name, first + reader.line_num, str(error)) from None
    ragged.end()
    check_cells(name, rows.count, width)
    if ragged.too_many(rows.count):
        row, line = ragged.short[0]
        more = f", as are {len(ragged.short) - 1:,} others" if len(ragged.short) > 1 else ""
        raise _refused(name, line, _uneven(row, width) + more)
    return rows.columns(), ragged.report()


def _uneven(row: list[str], width: int) -> str:
    return f"has {plural(len(row), 'field')} where the header has {width}"


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
