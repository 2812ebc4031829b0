"""Scores of single rows as short text: what a confirmed run did on each row is kept, for intervals that speak of new rows."""

from __future__ import annotations

import base64
import sys
import zlib
from array import array
from collections.abc import Iterable
from typing import Literal

# Bytes (0/1 or few classes), unsigned 16-bit class codes, unsigned 32-bit row numbers, float32.
Kind = Literal["B", "H", "I", "f"]
_LEVEL = 6


def pack(values: Iterable[float] | bytes, kind: Kind) -> str:
    """The values, one a row, as text: the kind's letter and base64 of their compressed little-endian bytes.

    ``values``: numbers, or the bytes of an array of that kind in the machine's own order.
    """
    numbers = array(kind)
    if isinstance(values, bytes):
        numbers.frombytes(values)
    else:
        numbers.extend(values)  # type: ignore[arg-type]
    if sys.byteorder == "big":
        numbers.byteswap()
    return kind + base64.b64encode(zlib.compress(numbers.tobytes(), _LEVEL)).decode()


def unpack(text: str) -> array:
    """The inverse of ``pack``. Raises ValueError for anything else."""
    try:
        numbers = array(text[:1])
        numbers.frombytes(zlib.decompress(base64.b64decode(text[1:], validate=True)))
    except (ValueError, zlib.error, TypeError) as error:
        raise ValueError(f"not packed row scores: {error}") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
