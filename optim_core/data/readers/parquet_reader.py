"""Parquet to typed columns, batch by batch under a byte counter: the file's own statement of its size may be false."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optim_core.data.readers.arrow_columns import collected, is_text, usable
from optim_core.data.readers.refusals import POINTER, unreadable
from optim_core.data.text import show
from optim_core.spec.errors import DataError

_BATCH_ROWS = 8192


def read_parquet(file: BinaryIO, name: str) -> tuple[list[str], list[pd.Series], list[str]]:
    """Names, columns as float64, bool-or-missing, string or datetime64, and sentences; lists, structs and the like are left
    out. Raises DataError ``malformed_table``, ``too_many_columns``, ``duplicate_column``, ``too_large_unpacked``.
    """
    try:
        plain = pq.ParquetFile(file, page_checksum_verification=True)
        schema, rows = plain.schema_arrow, plain.metadata.num_rows
        places, report = usable(schema, rows, name)
        fields = [schema.field(place) for place in places]
        # Read as dictionaries: a kilobyte of dictionary can stand for gigabytes of repeated text.
        texts = [field.name for field in fields if is_text(field.type)]
        file.seek(0)
        table = pq.ParquetFile(file, read_dictionary=texts, page_checksum_verification=True)
        columns = collected(_batches(table, fields, places, _wanted(schema, places)), fields, name)
        return [field.name for field in fields], columns, report
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError, IndexError) as error:
        raise unreadable(name, "Parquet", error) from None


def _batches(
    table: pq.ParquetFile, fields: Sequence[pa.Field], places: Sequence[int], wanted: list[str] | None
) -> Iterator[list[pa.Array]]:
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
        named = places if wanted is None else [batch.schema.get_field_index(field.name) for field in fields]
        yield [batch.column(place) for place in named]


def _wanted(schema: pa.Schema, places: list[int]) -> list[str] | None:
    """The names to read; None for all."""
    if len(places) == len(schema):
        return None
    if len(set(schema.names)) != len(schema):
        twice = next(n for n in schema.names if schema.names.count(n) > 1)
        raise DataError(f"two columns are named {show(twice)}", code="duplicate_column", pointer=POINTER)
    return [schema.names[place] for place in places]
