"""The columns of a table at a glance: what each is read as, its middle and its ends, and the first rows as they were read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optim_core.data.columns import Column, LeftOut, understand
from optim_core.data.notation import Notation
from optim_core.data.prepare import SHOWN_ROWS, Understood
from optim_core.data.source import read_file
from optim_core.data.widths import gaps_of
from optim_core.spec.columns import Glance
from optim_core.spec.problem import FileDataset

_MICROS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class Preview:
    """A table without a target. ``report``: how it was read, in sentences."""

    rows: int
    columns: list[Glance]
    report: list[str]


def preview(dataset: FileDataset, roots: Sequence[str] | None) -> Preview:
    """What is in the file of ``dataset``, which needs no target. Raises DataError as ``inspect`` does."""
    found = read_file(dataset, roots)
    if isinstance(found, dict):
        arrays = [
            Glance(name, "array", 0, None, None, None, [f"{array.dtype.name} {array.shape}"])
            for name, array in found.items()
        ]
        return Preview(max((len(array) for array in found.values()), default=0), arrays, [])
    frame, notes, glances = found.frame, list[str](), []
    for name in frame:
        raw = pd.Series(frame[name])
        column = understand(str(name), raw, chosen=True, notation=found.notation)
        glances.append(_left_out(column.name, raw, found.notation) if isinstance(column, LeftOut) else _used(column))
        notes += [column.note] if isinstance(column, Column) and column.note else []
    return Preview(len(frame), glances, [*found.report, *notes])


def preview_of(found: Understood) -> list[Glance]:
    """The target and every column of a table that was read with one; none for images."""
    if found.images is not None:
        return []
    used = {column.name: column for column in found.columns}
    return [
        _target(found),
        *(
            _used(used[name]) if name in used else _left_out(name, pd.Series(found.head[name]), Notation())
            for name in found.names
        ),
    ]


def _target(found: Understood) -> Glance:
    values, classes = found.target.values, found.target.classes
    missing = int((~found.target.keep).sum())
    if classes is not None:
        examples = [classes[code] for code in values[:SHOWN_ROWS]]
        return Glance(found.target_name, "target", missing, None, None, None, examples)
    return Glance(found.target_name, "target", missing, *_ends(values), [f"{one:.6g}" for one in values[:SHOWN_ROWS]])


def _used(column: Column) -> Glance:
    missing = gaps_of(column)
    if column.levels is not None:
        examples = ["" if level is None else level for level in column.levels.first(SHOWN_ROWS)]
        return Glance(column.name, column.role, missing, None, None, None, examples)
    assert column.numbers is not None
    first, head = column.numbers[:, 0], column.numbers[:SHOWN_ROWS]
    if column.role == "date" or column.clock:
        written = _time_of(first, padded=column.role == "date") if column.clock else _day
        least, middle, most = (None if one is None else written(one) for one in _ends(first))
        examples = ["" if np.isnan(one) else written(one) for one in head[:, 0]]
        return Glance(column.name, column.role, missing, least, middle, most, examples)
    if column.role == "text":
        return Glance(column.name, "text", missing, None, None, None, [])
    examples = [" / ".join("" if np.isnan(one) else f"{one:.6g}" for one in row) for row in head]
    return Glance(column.name, column.role, missing, *_ends(first), examples)


def _left_out(name: str, raw: pd.Series, notation: Notation) -> Glance:
    gaps = raw.isna() | raw.astype("str").str.strip().str.lower().isin(notation.missing.words)
    examples = ["" if pd.isna(value) else str(value) for value in raw.head(SHOWN_ROWS)]
    return Glance(name, "left out", int(gaps.sum()), None, None, None, examples)


def _ends(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    present = values[~np.isnan(values)]
    if not present.size:
        return None, None, None
    return float(present.min()), float(np.median(present)), float(present.max())


def _time_of(hours: np.ndarray, *, padded: bool) -> Callable[[float], str]:
    """How times are written of which ``hours`` are the values of the column: 01:07, or 26:05:30 where some have seconds."""
    seconds = np.round(hours[~np.isnan(hours)] * 3600)
    finer = bool((seconds % 60 != 0).any())

    def written(value: float) -> str:
        minutes, second = divmod(round(value * 3600), 60)
        hour, minute = divmod(minutes, 60)
        return f"{hour:0{1 + padded}d}:{minute:02d}" + (f":{second:02d}" if finer or second else "")

    return written


def _day(days: float) -> str:
    stamp = np.datetime64(round(days * _MICROS_PER_DAY), "us")
    return str(stamp.astype("datetime64[D]" if days % 1 == 0 else "datetime64[m]")).replace("T", " ")
