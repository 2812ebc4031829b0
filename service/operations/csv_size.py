"""How large a delimited text is, counted as it is read and no further than tables may be. Runs in a child process."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from optim_core.data.limits import MAX_LINE_BYTES
from optim_core.data.readers.layout import find_layout
from optim_core.data.readers.refusals import check_cells, malformed

# A line that is too long spans several pieces, so that only what goes over from one to the next needs counting.
_PIECE = 1 << 20
_HEAD = 1 << 16


def count_lines(file: BinaryIO, name: str) -> int:
    """Lines of the whole text. Raises DataError ``malformed_table`` for a line of more than MAX_LINE_BYTES, and what
    ``check_cells`` does as soon as there are too many of them.

    A row is a line that ends outside quotes, and has as many cells as the first lines say; a study that separates fields by
    another mark reads it its own way, and is asked again.
    """
    lines = lf = cr = open_line = width = 0
    quoted = after_cr = False
    while piece := file.read(_PIECE):
        if not width:
            width = _width(piece[:_HEAD])
        ends = piece.replace(b"\r", b"\n")
        first, last = ends.find(b"\n"), ends.rfind(b"\n")
        if open_line + (len(piece) if first < 0 else first) > MAX_LINE_BYTES:
            raise malformed(name, f" has a line of more than {MAX_LINE_BYTES:,} bytes")
        open_line = open_line + len(piece) if last < 0 else len(piece) - last - 1
        lines += ends.count(b"\n") - piece.count(b"\r\n") - (after_cr and piece[:1] == b"\n")
        after_cr = piece[-1:] == b"\r"
        more, quoted = _rows(piece, quoted)
        lf, cr = lf + more[0], cr + more[1]
        # Both where both end each row.
        if max(lf, cr):
            check_cells(name, max(lf, cr), width)
    return lines + (open_line > 0)


def _width(head: bytes) -> int:
    """Fields of a row, one at least. Without its zeros UTF-16 is as good."""
    whole = head.replace(b"\0", b"").decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # The last one may be cut.
    layout = find_layout([f"{line}\n" for line in (whole[:-1] or whole)], None)
    return max(1, len(layout.header) if layout else 1)


def _rows(piece: bytes, quoted: bool) -> tuple[tuple[int, int], bool]:
    """How many line feeds and carriage returns stand outside quotes, and whether one is open at the end of the piece.

    Takes a few milliseconds, whatever the piece consists of.
    """
    if b'"' not in piece:
        return ((0, 0) if quoted else (piece.count(b"\n"), piece.count(b"\r"))), quoted
    signs = np.frombuffer(piece, np.uint8)
    quotes = np.flatnonzero(signs == ord('"'))

    def outside(sign: str) -> int:
        before = np.searchsorted(quotes, np.flatnonzero(signs == ord(sign)))
        return int(np.count_nonzero((before + quoted) % 2 == 0))

    return (outside("\n"), outside("\r")), quoted ^ bool(len(quotes) % 2)
