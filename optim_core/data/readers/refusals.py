"""Refusals that several readers share."""

from __future__ import annotations

from optim_core.data.limits import MAX_CELLS, MAX_COLUMNS, MAX_UNPACKED_BYTES
from optim_core.data.text import show
from optim_core.spec.errors import DataError

POINTER = "/dataset/path"


def malformed(name: str, what: str) -> DataError:
    """``what`` is wrong with the file."""
    return DataError(f"{show(name)}{what}", code="malformed_table", pointer=POINTER)


def unreadable(name: str, kind: str, error: BaseException) -> DataError:
    """A library could not read it: the first line of what it says."""
    try:
        said = str(error)
    except Exception:  # liac-arff puts a cell into a format, and fails where the cell has a % of its own
        said = str(getattr(error, "message", ""))
    first = (said.splitlines() or [""])[0] or type(error).__name__
    printable = "".join(sign if sign.isprintable() else "?" for sign in first[:120])
    return malformed(name, f" cannot be read as {kind}: {printable}")


def empty(name: str) -> DataError:
    """Nothing in it."""
    return DataError(f"{show(name)} is empty", code="empty_file", pointer=POINTER)


def too_large_unpacked(name: str) -> DataError:
    """More than the limits once it is unpacked."""
    message = f"{show(name)} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes or {MAX_CELLS:,} cells"
    return DataError(message, code="too_large_unpacked", pointer=POINTER)


def check_cells(name: str, rows: int, columns: int) -> None:
    """Raises DataError ``too_many_columns`` and ``too_large``."""
    if columns > MAX_COLUMNS:
        message = f"{show(name)} has {columns:,} columns; the limit is {MAX_COLUMNS:,}"
        raise DataError(message, code="too_many_columns", pointer=POINTER)
    if rows * columns > MAX_CELLS:
        message = f"{show(name)} has more than {MAX_CELLS:,} cells"
        raise DataError(message, code="too_large", pointer=POINTER)
