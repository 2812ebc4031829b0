"""ARFF to columns, by liac-arff: scipy's reader refuses strings and sparse rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pandas as pd

from optim_core.data.limits import MAX_LINE_BYTES
from optim_core.data.readers.cells import Growing
from optim_core.data.readers.encoding import Utf8Text
from optim_core.data.readers.refusals import check_cells, malformed, unreadable
from optim_core.spec.errors import DataError

_DATE = re.compile(r"^(\s*@attribute\s+(?:'[^']*'|\"[^\"]*\"|\S+)\s+)date\b.*", re.IGNORECASE)

_AT_LINE = re.compile(r",?\s(?:at|in) line:? ?%d")


def read_arff(file: BinaryIO, name: str, encoding: str | None) -> tuple[list[str], list[pd.Series], list[str]]:
    """Names, columns and sentences. Raises DataError ``malformed_table``, ``too_large``, ``too_many_columns``."""
    import arff

    text = Utf8Text(file, name, encoding)
    lines = _Lines(text.stream(), name)
    table = Growing()
    try:
        found = cast(Any, arff).load(iter(lines), return_type=arff.DENSE_GEN)
        names = [str(attribute[0]) for attribute in found["attributes"]]
        check_cells(name, 1, len(names))
        places = [str(place) for place in range(len(names))]
        for row in found["data"]:
            if len(row) != len(names):
                raise malformed(name, f": row {table.rows + 1} has {len(row)} values for {len(names)} attributes")
            for place, value in zip(places, row, strict=True):
                table.add(place, value)
            table.next_row()
            if table.rows % 1000 == 0:
                check_cells(name, table.rows, len(names))
    except (DataError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # its parser raises many kinds on what is no ARFF, and does not know the line among the rows
        raise unreadable(name, f"ARFF, line {lines.number}", _without_line(error)) from None
    columns = table.columns() or [pd.Series([], dtype="str") for _ in names]
    return names, columns, text.report


class _Lines:
    """The lines of an ARFF file; ``number``: of the last one."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name, self.number = stream, name, 0

    def __iter__(self) -> Iterator[str]:
        while piece := self._stream.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            if len(piece) > MAX_LINE_BYTES:
                raise malformed(self._name, f" has a line longer than {MAX_LINE_BYTES:,} bytes")
            # Dates, which the library does not know, are strings to be understood.
            yield _DATE.sub(r"\1STRING", piece.decode("utf-8", "replace"))


def _without_line(error: Exception) -> Exception:
    """``error`` as the library has it, but for the number of a line: its messages are formats, with cells in some."""
    message = getattr(error, "message", None)
    return ValueError(_AT_LINE.sub("", message).replace("%%", "%")) if isinstance(message, str) else error
