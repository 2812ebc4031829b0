"""A file to a table, whatever its format: named columns of numbers, flags, times or strings, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from optim_core.data.notation import (
    COLUMNS_TELL,
    Missing,
    Notation,
    decimal_mark,
    is_textual,
    only_words,
    plain_numbers,
    without,
    written_whole,
)
from optim_core.data.readers.csv_reader import read_csv
from optim_core.data.readers.head_rows import look_like_data
from optim_core.data.readers.headers import clean_name, column_names
from optim_core.data.readers.layout import DELIMITERS
from optim_core.data.readers.margins import key_of, without_edges, without_repeated
from optim_core.spec.problem import FileDataset


@dataclass(frozen=True)
class Table:
    """``how``: the end of a sentence on what was read. ``repeated``: names that several columns of the file have.
    ``headless``: the names look like a row of the table.
    """

    frame: pd.DataFrame
    how: str
    report: list[str]
    notation: Notation
    repeated: frozenset[str]
    headless: bool = False


def read_table(file: BinaryIO, name: str, kind: str, dataset: FileDataset, missing: Missing) -> Table:
    """Raises DataError as the readers do; see each."""
    how, otherwise = "", "."
    target, headless = None if dataset.target is None else dataset.target.strip(), dataset.header == "none"
    if kind == "csv":
        layout, columns, report = read_csv(
            file, name, sep=dataset.sep, encoding=dataset.encoding, missing=missing, target=target, headless=headless
        )
        raw, heads = layout.header, layout.heads
        if layout.delimiter != ",":
            how = f", separated by {DELIMITERS.get(layout.delimiter, repr(layout.delimiter))}"
        otherwise = "," if layout.delimiter == ";" else "."
    else:
        raw, columns, report, heads = _read(file, name, kind, dataset)
    names, sentences = column_names(raw)
    cleaned = [clean_name(one) for one in raw]
    if kind in ("csv", "xlsx"):
        inner = without_edges(columns)
        columns, report = inner.columns, report + inner.report
    plain = [_numbers(column, missing) for column in columns]
    inner = without_repeated(columns, heads)
    if inner.report:
        kept = [_numbers(column, missing) for column in inner.columns]
        # Of a table without names its first row took their place, which others may repeat.
        if not look_like_data(cleaned, kept):
            columns, plain, report = inner.columns, kept, report + inner.report
    texts = [column for column in plain if is_textual(column)]
    points = sum(
        _is_broken(now) for before, now in zip(columns, plain, strict=True) if kind == "csv" or before is not now
    )
    mark, why = decimal_mark(texts, points, otherwise) if dataset.decimal is None else (".", "")
    if kind == "csv" and mark == "," and why == COLUMNS_TELL:
        report.append("The numbers have decimal commas.")
    return Table(
        pd.DataFrame(dict(zip(names, plain, strict=True)), copy=False),
        how,
        report + sentences,
        notation_of(dataset, Notation(mark, why, missing=missing)),
        frozenset(one for one in cleaned if one and cleaned.count(one) > 1),
        kind in ("csv", "xlsx") and look_like_data(cleaned, plain),
    )


def notation_of(dataset: FileDataset, found: Notation) -> Notation:
    """``found``, but for what the spec says."""
    found = replace(found, missing=Missing.of(dataset.na))
    return found if dataset.decimal is None else replace(found, decimal=dataset.decimal, forced=True)


def _read(
    file: BinaryIO, name: str, kind: str, dataset: FileDataset
) -> tuple[list[str], list[pd.Series], list[str], list[tuple[str, ...]]]:
    """Names, columns, sentences, and the rows of the names as ``key_of`` has them. Readers of formats that are rarer than csv
    are imported when one comes.
    """
    if kind == "xlsx":
        from optim_core.data.readers.xlsx_reader import Wanted, read_xlsx

        return read_xlsx(file, name, Wanted(dataset.target, dataset.sheet, dataset.header == "none"))
    if kind == "parquet":
        from optim_core.data.readers.parquet_reader import read_parquet

        names, columns, report = read_parquet(file, name)
    elif kind == "arrow":
        from optim_core.data.readers.arrow_reader import read_arrow

        names, columns, report = read_arrow(file, name)
    elif kind == "arff":
        from optim_core.data.readers.arff_reader import read_arff

        names, columns, report = read_arff(file, name, dataset.encoding)
    else:
        from optim_core.data.readers.json_reader import read_json

        names, columns, report = read_json(file, name, dataset.encoding)
    return names, columns, report, [key_of(names)]


def _numbers(column: pd.Series, missing: Missing) -> pd.Series:
    """``column`` as numbers where its strings are plain ones (int64 as of a CSV), without those that mean a gap."""
    if not is_textual(column):
        return pd.Series(without(column.to_numpy(), missing), copy=False) if column.dtype == "float64" else column
    texts = pa.chunked_array(pa.array(column, type=pa.large_string()))
    found = plain_numbers(texts, missing)
    if found is None or only_words(found, texts):
        return column
    return pd.Series(found.astype(np.int64) if written_whole(found, texts) else found, copy=False)


def _is_broken(column: pd.Series) -> bool:
    """Whether it has numbers that are not whole: of a text they were written with decimal points."""
    return column.dtype == "float64" and bool((column.dropna().head(1000) % 1 != 0).any())
