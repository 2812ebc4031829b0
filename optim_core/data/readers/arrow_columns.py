"""Arrow's types as columns: which can be used, and what each becomes. For Parquet and Arrow files alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.types as t

from optim_core.data.limits import MAX_UNPACKED_BYTES
from optim_core.data.notation import call
from optim_core.data.readers.refusals import check_cells, malformed, too_large_unpacked
from optim_core.data.text import show

_CALENDAR = (-62_135_596_800_000_000, 253_402_300_799_000_000)
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def usable(schema: pa.Schema, rows: int, name: str) -> tuple[list[int], list[str]]:
    """Places of the columns that can be features or targets, and a sentence on each other and on each duration.

    Raises DataError ``too_many_columns``, ``too_large_unpacked``, ``malformed_table`` when none is left.
    """
    check_cells(name, 1, len(schema))
    places = [place for place, field in enumerate(schema) if _supported(field.type)]
    if not places:
        kinds = ", ".join(f"{show(field.name)} {str(field.type)[:60]}" for field in list(schema)[:5])
        raise malformed(name, f" has no column of numbers, texts, dates or flags ({kinds or 'it has none at all'})")
    try:
        check_cells(name, rows, len(places))
    except Exception:
        raise too_large_unpacked(name) from None
    report = [
        f"Left out {show(field.name)}: the type {str(field.type)[:60]} is no number, text, date or flag."
        for place, field in enumerate(schema)
        if place not in places
    ]
    report += [f"The durations of {show(field.name)} became seconds." for field in schema if t.is_duration(field.type)]
    return places, report


class _Budget:
    """Bytes that a file may still unpack to."""

    def __init__(self, name: str) -> None:
        self._name, self._spent = name, 0

    def spend(self, column: pa.Array) -> None:
        """Raises DataError ``too_large_unpacked``."""
        self._spent += _unpacked_bytes(column)
        if self._spent > MAX_UNPACKED_BYTES:
            raise too_large_unpacked(self._name)


def collected(batches: Iterable[Sequence[pa.Array]], fields: Sequence[pa.Field], name: str) -> list[pd.Series]:
    """The columns of ``fields`` from their parts, batch by batch. Raises DataError ``too_large_unpacked``."""
    budget, chunks = _Budget(name), [list[pa.Array]() for _ in fields]
    for batch in batches:
        for chunk, part in zip(chunks, batch, strict=True):
            budget.spend(part)
            chunk.append(part)
    return [_column_of(chunk, field.type) for chunk, field in zip(chunks, fields, strict=True)]


def is_text(kind: pa.DataType) -> bool:
    """Whether it is one of the string types."""
    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)


def _column_of(chunks: list[pa.Array], kind: pa.DataType) -> pd.Series:
    """float64, boolean, datetime64 or strings, among them times of day as they are written."""
    if t.is_dictionary(kind):
        kind = kind.value_type
    dense = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in chunks]
    values = pa.chunked_array(dense, type=None if dense else kind)
    if is_text(kind):
        return pd.Series(pd.array(values.cast(pa.large_string()), dtype="str"))
    if t.is_date(kind) or t.is_timestamp(kind):
        seconds = values.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
        return pd.Series(seconds.cast(pa.int64()).to_pandas(), dtype="Int64").pipe(_as_time)
    if t.is_time(kind):
        written = call("replace_substring_regex", values.cast(pa.large_string()), pattern=r"\.0+$", replacement="")
        return pd.Series(pd.array(written, dtype="str"))
    if t.is_boolean(kind):
        return pd.Series(pd.array(values.to_pandas(), dtype="boolean"))
    if t.is_null(kind):
        return pd.Series(np.full(len(values), np.nan))
    scale = 1.0
    if t.is_duration(kind):
        values, scale = values.cast(pa.int64()), _PER_SECOND[kind.unit]
    return pd.Series(values.cast(pa.float64(), safe=False).to_pandas().to_numpy(np.float64, na_value=np.nan) / scale)


def _supported(kind: pa.DataType) -> bool:
    if t.is_dictionary(kind):
        return _supported(kind.value_type) and not t.is_dictionary(kind.value_type)
    number = t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_duration(kind)
    time = t.is_date(kind) or t.is_timestamp(kind) or t.is_time(kind)
    return number or time or t.is_boolean(kind) or t.is_null(kind) or is_text(kind)


def _unpacked_bytes(column: pa.Array) -> int:
    if not t.is_dictionary(column.type) or not is_text(column.type.value_type):
        return column.nbytes + 8 * len(column)
    lengths = call("binary_length", column.dictionary).take(column.indices)
    return 8 * len(column) + int(call("sum", lengths.cast(pa.int64())).as_py() or 0)


def _as_time(micros: pd.Series) -> pd.Series:
    # The years 1 to 9999: what lies beyond is damage, and calendars stop there.
    missing = micros.isna() | ~micros.between(*_CALENDAR).fillna(False)
    stamps = pd.Series(micros.mask(missing, 0).to_numpy(np.int64).view("datetime64[us]"))
    return stamps.where(~missing)
