"""Values as Python holds them to columns: of one kind where all are, else of strings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

_FLUSH_CELLS = 200_000
_EXACT = 2**53
_TIMES = (dt.datetime, dt.date)


class Growing:
    """Rows that come one by one become columns a few at a time: Python's values take ten times the room of a column's."""

    def __init__(self) -> None:
        self.rows = 0
        self.names: dict[str, int] = {}
        self._waiting: list[list[Any]] = []
        self._parts: list[list[pd.Series]] = []
        self._flushed = 0

    @property
    def width(self) -> int:
        return len(self.names)

    def add(self, name: str, value: object) -> None:
        """The value of the column ``name`` in the present row."""
        place = self.names.get(name)
        if place is None:
            place = self.names[name] = len(self.names)
            self._waiting.append([])
            self._parts.append([] if not self._flushed else [pd.Series(np.full(self._flushed, np.nan))])
        column = self._waiting[place]
        here = self.rows - self._flushed
        if len(column) == here:
            column.append(value)
        elif len(column) < here:
            column.extend([None] * (here - len(column)))
            column.append(value)
        else:
            column[-1] = value

    def next_row(self) -> None:
        """The present row is whole."""
        self.rows += 1
        if (self.rows - self._flushed) * max(1, self.width) >= _FLUSH_CELLS:
            self._flush()

    def columns(self) -> list[pd.Series]:
        """All columns. Values that are of several kinds are strings."""
        self._flush()
        return [_joined(parts) for parts in self._parts]

    def _flush(self) -> None:
        here = self.rows - self._flushed
        for column, parts in zip(self._waiting, self._parts, strict=True):
            column.extend([None] * (here - len(column)))
            parts.append(as_column(column))
            column.clear()
        self._flushed = self.rows


def as_column(values: Sequence[Any]) -> pd.Series:
    """float64, boolean, datetime64 or strings; None is missing. A duration is its seconds."""
    kinds = {_kind(value) for value in values if value is not None}
    if kinds <= {"number"}:
        return pd.Series(np.array([np.nan if value is None else _number(value) for value in values], dtype=np.float64))
    if kinds == {"flag"}:
        return pd.Series(pd.array(values, dtype="boolean"))
    if kinds == {"time"}:
        return pd.Series(
            np.array([None if value is None else _naive(value) for value in values], dtype="datetime64[us]")
        )
    texts = [None if value is None else _text(value) for value in values]
    return pd.Series(pd.array(pa.array(texts, type=pa.large_string()), dtype="str"))


def _joined(parts: list[pd.Series]) -> pd.Series:
    filled = [part for part in parts if part.notna().any()] or parts[:1]
    if len({str(part.dtype) for part in filled}) <= 1:
        kind = filled[0].dtype if filled else np.dtype(np.float64)
        return pd.concat([part if part.dtype == kind else _empty(len(part), kind) for part in parts], ignore_index=True)
    texts = [
        pa.array([None if pd.isna(v) else _text(v) for v in part.tolist()], type=pa.large_string()) for part in parts
    ]
    return pd.Series(pd.array(pa.chunked_array(texts), dtype="str"))


def _empty(rows: int, kind: Any) -> pd.Series:
    return pd.Series([None] * rows, dtype=kind)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int) and abs(value) > _EXACT:
        # Not exact as a number: whether it is one is decided by the column as a whole.
        return "text"
    if isinstance(value, int | float | dt.timedelta):
        return "number"
    return "time" if isinstance(value, _TIMES) else "text"


def _number(value: Any) -> float:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _naive(value: Any) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day)
    return value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str):
        # Half a surrogate pair is no text.
        return value.encode("utf-8", "replace").decode()
    return (
        value.isoformat(" ")
        if isinstance(value, dt.datetime)
        else repr(value)
        if isinstance(value, float)
        else str(value)
    )
