"""Parquet to typed columns, batch by batch under a byte counter: the file's own statement of its size may be false."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optim_core.data.limits import MAX_CELLS, MAX_COLUMNS, MAX_UNPACKED_BYTES
from optim_core.data.text import show
from optim_core.spec.errors import DataError

_BATCH_ROWS = 8192
_CALENDAR = (-62_135_596_800_000_000, 253_402_300_799_000_000)


def read_parquet(file: BinaryIO, name: str) -> pd.DataFrame:
    """Columns as float64, bool-or-missing, string or datetime64. Raises DataError ``malformed_table``,
    ``unsupported_dtype`` (nested, binary, …), ``too_many_columns``, ``duplicate_column``, ``too_large_unpacked``.
    """
    try:
        plain = pq.ParquetFile(file, page_checksum_verification=True)
        schema, rows = plain.schema_arrow, plain.metadata.num_rows
        _check_schema(schema, rows, name)
        texts = [field.name for field in schema if _is_text(field.type)]
        # Read as dictionaries: a kilobyte of dictionary can stand for gigabytes of repeated text.
        file.seek(0)
        chunks = _batches(pq.ParquetFile(file, read_dictionary=texts, page_checksum_verification=True), name)
        return pd.DataFrame(
            {field.name: _column([c[i] for c in chunks], field.type) for i, field in enumerate(schema)}, copy=False
        )
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"{show(name)} cannot be read as Parquet: {first[:120]}"
        raise DataError(message, code="malformed_table", pointer="/dataset/path") from None


def _check_schema(schema: pa.Schema, rows: int, name: str) -> None:
    if len(schema) > MAX_COLUMNS:
        message = f"{show(name)} has {len(schema):,} columns; the limit is {MAX_COLUMNS:,}"
        raise DataError(message, code="too_many_columns", pointer="/dataset/path")
    if len(set(schema.names)) != len(schema.names):
        twice = next(n for n in schema.names if schema.names.count(n) > 1)
        raise DataError(f"two columns are named {show(twice)}", code="duplicate_column", pointer="/dataset/path")
    for field in schema:
        if not _supported(field.type):
            message = f"column {show(field.name)} has the type {field.type}, which is not a number, text, date or flag"
            raise DataError(message, code="unsupported_dtype", pointer="/dataset/path")
    if rows * max(1, len(schema)) > MAX_CELLS:
        raise _too_large(name)


def _batches(table: pq.ParquetFile, name: str) -> list[list[pa.Array]]:
    chunks, spent = [], 0
    for batch in table.iter_batches(batch_size=_BATCH_ROWS):
        columns = list(batch.columns)
        spent += sum(_unpacked_bytes(column) for column in columns)
        if spent > MAX_UNPACKED_BYTES:
            raise _too_large(name)
        chunks.append(columns)
    return chunks


def _unpacked_bytes(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return column.nbytes + 8 * len(column)
    lengths = pc.call_function("binary_length", [column.dictionary]).take(column.indices)
    return 8 * len(column) + int(pc.call_function("sum", [lengths.cast(pa.int64())]).as_py() or 0)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _supported(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _supported(kind.value_type)
    t = pa.types
    number = t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind)
    return number or t.is_boolean(kind) or t.is_date(kind) or t.is_timestamp(kind) or t.is_null(kind) or _is_text(kind)


def _column(chunks: list[pa.Array], kind: pa.DataType) -> pd.Series:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    dense = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in chunks]
    values = pa.chunked_array(dense, type=None if dense else kind)
    if _is_text(kind):
        return pd.Series(pd.array(values.cast(pa.large_string()), dtype="str"))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        seconds = values.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
        return pd.Series(seconds.cast(pa.int64()).to_pandas(), dtype="Int64").pipe(_as_time)
    if pa.types.is_boolean(kind):
        return pd.Series(pd.array(values.to_pandas(), dtype="boolean"))
    if pa.types.is_null(kind):
        return pd.Series(np.full(len(values), np.nan))
    return pd.Series(values.cast(pa.float64(), safe=False).to_pandas().to_numpy(np.float64, na_value=np.nan))


def _as_time(micros: pd.Series) -> pd.Series:
    # The years 1 to 9999: what lies beyond is damage, and calendars stop there.
    missing = micros.isna() | ~micros.between(*_CALENDAR).fillna(False)
    stamps = pd.Series(micros.mask(missing, 0).to_numpy(np.int64).view("datetime64[us]"))
    return stamps.where(~missing)


def _too_large(name: str) -> DataError:
    message = f"{show(name)} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes or {MAX_CELLS:,} cells"
    return DataError(message, code="too_large_unpacked", pointer="/dataset/path")
