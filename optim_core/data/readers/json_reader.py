"""JSON to columns: an array of records, a record a line, or one object of columns. Read with the standard library's parser,
which takes values of several kinds in a column where pyarrow's refuses the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pandas as pd

from optim_core.data.limits import MAX_FILE_BYTES
from optim_core.data.readers.cells import Growing
from optim_core.data.readers.encoding import Utf8Text
from optim_core.data.readers.headers import clean_name
from optim_core.data.readers.refusals import check_cells, empty, malformed, too_large_unpacked
from optim_core.data.text import show_some

_SPACE = re.compile(r"[ \t\r\n]*")
# An object of columns has to be held whole.
_MAX_WHOLE = 64 * 2**20


def read_json(file: BinaryIO, name: str, encoding: str | None) -> tuple[list[str], list[pd.Series], list[str]]:
    """Names in the order in which they first occur, columns, sentences. A column with lists or objects is left out aloud.

    Raises DataError ``malformed_table`` with the place, ``too_large``, ``too_large_unpacked``, ``empty_file``.
    """
    source = Utf8Text(file, name, encoding)
    pieces, spent = [], 0
    for piece in source.pieces():
        spent += len(piece)
        if spent > MAX_FILE_BYTES:
            raise too_large_unpacked(name)
        pieces.append(piece)
    text = b"".join(pieces).decode("utf-8", "replace")
    del pieces
    table, nested = Growing(), set[str]()
    for record in _records(text, name):
        for key, value in record.items():
            key = clean_name(key)
            if isinstance(value, dict | list):
                nested.add(key)
                value = None
            table.add(key, value)
        if table.width == 0:
            raise malformed(name, ": a record is empty")
        table.next_row()
        if table.rows % 1000 == 0 or len(record) > 1000:
            check_cells(name, table.rows, table.width)
    check_cells(name, table.rows, table.width)
    found = [(key, column) for key, column in zip(table.names, table.columns(), strict=True) if key not in nested]
    if not found:
        raise malformed(name, " has no column of plain values")
    report = [f"Left out {show_some(sorted(nested))}: lists or objects are no features."] if nested else []
    return [key for key, _ in found], [column for _, column in found], [*source.report, *report]


def _records(text: str, name: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), _skip(text, 0)
    if place == len(text):
        raise empty(name)
    listed = text[place] == "["
    if listed:
        place = _skip(text, place + 1)
    first = True
    while place < len(text):
        if listed and text[place] == "]":
            if _skip(text, place + 1) < len(text):
                raise malformed(name, f", {_line(text, place)}: something follows the array")
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", "") or (
                "nested too deeply" if isinstance(error, RecursionError) else "bad number"
            )
            raise malformed(name, f", {_line(text, getattr(error, 'pos', place))}: {what}") from None
        if not isinstance(value, dict):
            raise malformed(name, f', {_line(text, place)}: a record is needed, as {{"a": 1, "b": 2}}')
        after = _skip(text, end)
        if (
            first
            and not listed
            and after == len(text)
            and value
            and all(isinstance(v, dict | list) for v in value.values())
        ):
            yield from _of_columns(value, end, name)
            return
        yield value
        first = False
        if listed and after < len(text) and text[after] == ",":
            after = _skip(text, after + 1)
        elif listed and (after == len(text) or text[after] != "]"):
            raise malformed(
                name, f", {_line(text, min(after, len(text) - 1))}: a comma or the end of the array is missing"
            )
        place = after
    if listed:
        raise malformed(name, f", {_line(text, len(text) - 1)}: the array does not end")


def _of_columns(columns: dict[str, Any], size: int, name: str) -> Iterator[dict[str, Any]]:
    """``{"a": [1, 2], "b": [3, 4]}``, or as pandas writes a frame, ``{"a": {"0": 1, "1": 2}, …}``."""
    if size > _MAX_WHOLE:
        raise too_large_unpacked(name)
    lists = [list(one.values()) if isinstance(one, dict) else one for one in columns.values()]
    keys = [list(one) if isinstance(one, dict) else range(len(one)) for one in columns.values()]
    if any(one != keys[0] for one in keys):
        raise malformed(name, " has columns of different lengths or rows")
    for row in zip(*lists, strict=True):
        yield dict(zip(columns, row, strict=True))


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _line(text: str, place: int) -> str:
    return f"line {text.count(chr(10), 0, place) + 1}"
