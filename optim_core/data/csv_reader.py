"""CSV text to columns of strings. One strict parser, so that every refusal names its line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from optim_core.data.limits import MAX_CELLS, MAX_COLUMNS, MAX_LINE_BYTES
from optim_core.data.text import show
from optim_core.spec.errors import DataError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_FLUSH_CELLS = 500_000


def read_csv(file: BinaryIO, name: str) -> tuple[pd.DataFrame, str]:
    """All columns as strings, untouched, and the delimiter. The first line holds the names.

    Raises DataError ``malformed_table`` (ragged row, broken quote, not UTF-8, NUL, lone CR), ``duplicate_column``,
    ``too_many_columns``, ``too_large``, ``empty_file``; each names the line.
    """
    lines = _lines(file, name)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{show(name)} is empty", code="empty_file", pointer="/dataset/path")
    delimiter = _sniff(first)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = _header(next(reader), name)
        columns = _columns(reader, header, name)
    except csv.Error as error:
        raise _malformed(name, reader.line_num, str(error)) from None
    return pd.DataFrame(columns, columns=header, copy=False), delimiter


def delimiter_name(delimiter: str) -> str:
    """``commas``, ``semicolons``, …"""
    return _DELIMITERS[delimiter]


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    number = 0
    while piece := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(piece) > MAX_LINE_BYTES:
            raise _malformed(name, number, f"longer than {MAX_LINE_BYTES:,} bytes")
        if b"\0" in piece:
            raise _malformed(name, number, "holds a NUL byte")
        try:
            text = piece.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _malformed(name, number, "is not UTF-8 text") from None
        body = text.removesuffix("\n").removesuffix("\r")
        if "\r" in body:
            raise _malformed(name, number, "holds a carriage return that ends no line")
        yield body + "\n"


def _sniff(line: str) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=bare.count)


def _header(cells: list[str], name: str) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        message = f"{show(name)} has {len(cells):,} columns; the limit is {MAX_COLUMNS:,}"
        raise DataError(message, code="too_many_columns", pointer="/dataset/path")
    header = [cell.strip() for cell in cells]
    if header[0] == "" and len(header) > 1:
        header[0] = "column 1"  # what a data frame's unnamed index becomes in a CSV file
    seen: dict[str, int] = {}
    for position, column in enumerate(header, start=1):
        if not column:
            message = f"{show(name)}, line 1: column {position} has no name"
            raise DataError(message, code="duplicate_column", pointer="/dataset/path")
        if column in seen:
            message = f"{show(name)}, line 1: columns {seen[column]} and {position} are both named {show(column)}"
            raise DataError(message, code="duplicate_column", pointer="/dataset/path")
        seen[column] = position
    return header


def _columns(reader: Iterator[list[str]], header: list[str], name: str) -> dict[str, pd.Series]:
    width, rows, total = len(header), [], 0
    chunks: list[list[pa.Array]] = [[] for _ in header]

    def flush() -> None:
        for chunk, cells in zip(chunks, zip(*rows, strict=True), strict=True):
            chunk.append(pa.array(cells, type=pa.large_string()))
        rows.clear()

    for row in reader:
        if not row:
            continue
        if len(row) != width:
            line = reader.line_num  # type: ignore[attr-defined]
            raise _malformed(name, line, f"has {len(row)} fields where the header has {width}")
        rows.append(row)
        total += width
        if total > MAX_CELLS:
            message = f"{show(name)} has more than {MAX_CELLS:,} cells"
            raise DataError(message, code="too_large", pointer="/dataset/path")
        if len(rows) * width >= _FLUSH_CELLS:
            flush()
    if rows:
        flush()
    empty = pa.chunked_array([], type=pa.large_string())
    return {
        column: pd.Series(pd.array(pa.chunked_array(chunk) if chunk else empty, dtype="str"))
        for column, chunk in zip(header, chunks, strict=True)
    }


def _malformed(name: str, line: int, what: str) -> DataError:
    return DataError(f"{show(name)}, line {line}: {what}", code="malformed_table", pointer="/dataset/path")
