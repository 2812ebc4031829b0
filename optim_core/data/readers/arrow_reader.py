"""Feather and Arrow files to typed columns, batch by batch.

A compressed buffer says how large it becomes, and memory for that is taken before a byte is unpacked. So these numbers are read
and added up first (Arrow columnar format, "Encapsulated message format" and `Message.fbs`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from optim_core.data.limits import MAX_UNPACKED_BYTES
from optim_core.data.readers.arrow_columns import collected, usable
from optim_core.data.readers.refusals import check_cells, malformed, too_large_unpacked, unreadable
from optim_core.spec.errors import DataError

_MAGIC = b"ARROW1\0\0"
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def read_arrow(file: BinaryIO, name: str) -> tuple[list[str], list[pd.Series], list[str]]:
    """Names, columns as float64, bool-or-missing, string or datetime64, and sentences; lists, structs and the like are left
    out. Raises DataError ``malformed_table``, ``too_many_columns``, ``too_large_unpacked``.
    """
    try:
        _check_sizes(file, name)
        # The file format is the stream format between two magic words; what it has at its end is of no use here.
        file.seek(_start(file))
        reader = pa.ipc.open_stream(file)
        places, report = usable(reader.schema, 0, name)
        fields = [reader.schema.field(place) for place in places]
        columns = collected(_batches(reader, places, name), fields, name)
        return [field.name for field in fields], columns, report
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError, struct.error) as error:
        raise unreadable(name, "an Arrow file", error) from None


def _batches(reader: pa.ipc.RecordBatchStreamReader, places: Sequence[int], name: str) -> Iterator[list[pa.Array]]:
    rows = 0
    for batch in reader:
        batch.validate(full=True)
        rows += batch.num_rows
        check_cells(name, rows, len(places))
        yield [batch.column(place) for place in places]


def _start(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    return 8 if head == _MAGIC else 0


def _check_sizes(file: BinaryIO, name: str) -> None:
    total = 0
    for message in _messages(file):
        if message.type in ("record batch", "dictionary"):
            try:
                total += _unpacked(message)
            except (struct.error, IndexError):
                raise malformed(name, " has a damaged message") from None
        if total > MAX_UNPACKED_BYTES:
            raise too_large_unpacked(name)


def _messages(file: BinaryIO) -> Iterator[pa.ipc.Message]:
    file.seek(_start(file))
    reader = pa.ipc.MessageReader.open_stream(file)
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _unpacked(message: pa.ipc.Message) -> int:
    """Bytes of all buffers of a batch as they say themselves, before they are unpacked."""
    meta, body = message.metadata.to_pybytes(), message.body
    root = _Table(meta, struct.unpack_from("<I", meta, 0)[0])
    kind = root.byte(1)
    batch = root.table(2)
    if kind == _DICTIONARY_BATCH:
        batch = batch.table(1)
    elif kind != _RECORD_BATCH:
        raise IndexError("no batch")
    compressed = batch.place(3) is not None
    total = 0
    for offset, length in batch.pairs(2):
        if length < 0 or offset < 0 or offset + length > body.size:
            raise IndexError("a buffer lies outside")
        size = length
        if compressed and length >= 8:
            said = struct.unpack_from("<q", body.slice(offset, 8).to_pybytes())[0]
            size = max(length, said)
        total += size
    return total


class _Table:
    """A table of FlatBuffers: fields found by their number."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - struct.unpack_from("<i", data, place)[0]

    def place(self, number: int) -> int | None:
        """Where the field lies; None when it is left out."""
        if self._fields < 0:
            raise IndexError("before the beginning")
        size = struct.unpack_from("<H", self._data, self._fields)[0]
        if 4 + 2 * number >= size:
            return None
        offset = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * number)[0]
        return self._place + offset if offset else None

    def byte(self, number: int) -> int:
        place = self.place(number)
        return 0 if place is None else self._data[place]

    def table(self, number: int) -> _Table:
        return _Table(self._data, self._target(number))

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        start = self._target(number)
        count = struct.unpack_from("<I", self._data, start)[0]
        if count * 16 > len(self._data):
            raise IndexError("longer than the message")
        return [struct.unpack_from("<qq", self._data, start + 4 + 16 * i) for i in range(count)]

    def _target(self, number: int) -> int:
        place = self.place(number)
        if place is None:
            raise IndexError("a field is missing")
        return place + struct.unpack_from("<I", self._data, place)[0]
