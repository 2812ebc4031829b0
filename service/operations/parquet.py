"""Rows as Parquet, a row group at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

GROUP = 5000


def parquet(table: Callable[[], Iterator[dict[str, Any]]], always: Sequence[str]) -> Iterator[bytes]:
    """The bytes of a file. ``table`` is gone through twice: once for the columns, ``always`` among them, and their types."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    kinds: dict[str, set[type]] = {name: set() for name in always}
    for row in table():
        for name, value in row.items():
            kinds.setdefault(name, set()).update({type(value)} - {type(None)})
    schema = pa.schema([(name, _type(pa, found)) for name, found in kinds.items()])
    out, rows = io.BytesIO(), table()
    with pq.ParquetWriter(_Unclosed(out), schema) as writer:
        while group := list(islice(rows, GROUP)):
            columns = {f.name: [_as(f.type, row.get(f.name), pa) for row in group] for f in schema}
            writer.write_table(pa.table(columns, schema))
            yield _taken(out)
    yield _taken(out)


class _Unclosed(io.RawIOBase):
    """Counts what is written, since what was taken away is no longer there to be counted."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out, self._written = out, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, piece: Any) -> int:
        self._written += len(piece)
        return self._out.write(piece)


def _taken(out: io.BytesIO) -> bytes:
    content = out.getvalue()
    out.seek(0)
    out.truncate()
    return content


def _type(pa: Any, found: set[type]) -> Any:
    if found <= {bool}:
        return pa.bool_()
    if found <= {int}:
        return pa.int64()
    return pa.float64() if found <= {int, float} else pa.string()


def _as(kind: Any, value: Any, pa: Any) -> Any:
    # A column may hold words for some methods and numbers for others.
    return str(value) if value is not None and kind == pa.string() else value
