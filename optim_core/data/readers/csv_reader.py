"""Delimited text to columns: encoding and layout first, then the fast parser where it is safe, else the strict one."""

from __future__ import annotations

from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from optim_core.data.limits import MAX_LINE_BYTES
from optim_core.data.notation import Missing
from optim_core.data.readers.csv_fast import in_order, read_fast
from optim_core.data.readers.csv_strict import read_strict
from optim_core.data.readers.encoding import Utf8Text
from optim_core.data.readers.layout import Layout, find_layout
from optim_core.data.readers.refusals import check_cells, empty, malformed

_HEAD_BYTES = 1 << 18


def read_csv(
    file: BinaryIO,
    name: str,
    *,
    sep: str | None,
    encoding: str | None,
    missing: Missing,
    target: str | None = None,
    headless: bool = False,
) -> tuple[Layout, list[pd.Series], list[str]]:
    """The layout, the columns (float64 where all are plain numbers, else strings, untouched) and sentences. ``target`` and
    ``headless``: see ``find_layout``.

    Raises DataError ``malformed_table``, ``too_many_columns``, ``too_large``, ``empty_file``; what is wrong with a row names
    its line.
    """
    text = Utf8Text(file, name, encoding)
    head = _head(text, name)
    lines = head.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    if len(head) >= _HEAD_BYTES and len(lines) > 2:
        # The last one is cut.
        lines = lines[:-1]
    layout = find_layout([f"{line}\n" for line in lines], sep, target, headless)
    if layout is None:
        raise empty(name)
    width = len(layout.header)
    if width == 0:
        # No record at all: refused, with the reason.
        width = 1 + lines[0].count(layout.delimiter)
    check_cells(name, 1, width)
    skip = _bytes_of(head, layout.lines)
    report = [*text.report, *layout.report]
    rows = text.stream(skip)
    if (
        layout.delimiter.isascii()
        and layout.delimiter != " "
        and in_order(iter(lambda: rows.read(1 << 16), b""), layout.delimiter)
    ):
        try:
            columns = read_fast(lambda: text.stream(skip), name, layout.delimiter, width, missing)
            return layout, columns, report
        except pa.ArrowInvalid:
            # The strict parser says what is wrong, and where.
            pass
    columns, more = read_strict(text.stream(skip), name, width, layout)
    return layout, columns, report + more


def _head(text: Utf8Text, name: str) -> bytes:
    """The first lines, two at least."""
    stream = text.stream()
    head = stream.read(_HEAD_BYTES)
    if b"\n" not in head and b"\r" in head:
        text.end_lines_at_returns()
        head = head.replace(b"\r", b"\n")
        stream = text.stream(len(head))
    while head.count(b"\n") < 2 and len(head) <= 2 * MAX_LINE_BYTES:
        more = stream.read(_HEAD_BYTES)
        if not more:
            break
        head += more
    if len(head.split(b"\n", 1)[0]) > MAX_LINE_BYTES:
        raise malformed(name, f", line 1: longer than {MAX_LINE_BYTES:,} bytes")
    return head


def _bytes_of(head: bytes, lines: int) -> int:
    """How many bytes the first ``lines`` of ``head`` take."""
    end = 0
    for _ in range(lines):
        end = head.find(b"\n", end) + 1
        if end == 0:
            return len(head)
    return end
