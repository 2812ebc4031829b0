"""What is written is read, row by row: a reader looks ahead, and no row may get lost between the look and the reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optim_core.data.readers import csv_fast, head_rows, layout, xlsx_reader
from optim_core.data.readers.table import Table
from optim_core.data.source import read_file
from optim_core.spec.problem import FileDataset


def _arff(frame: pd.DataFrame, path: Path) -> None:
    head = "".join(f"@attribute {name} {'numeric' if name != 'c' else '{u,v}'}\n" for name in frame)
    path.write_text(f"@relation t\n{head}@data\n" + frame.to_csv(index=False, header=False))


WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "json": lambda frame, path: frame.to_json(path, orient="records"),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "feather": lambda frame, path: frame.to_feather(path),
    "xlsx": lambda frame, path: frame.to_excel(path, index=False),
    "arff": _arff,
    "npz": lambda frame, path: np.savez(path, **{name: frame[name].to_numpy() for name in ("row", "y")}),
}
LOOKED_AT = {1, head_rows._BELOW, xlsx_reader._LOOKED_AT, layout._LINES, 1000}


def _read(frame: pd.DataFrame, path: Path, kind: str) -> np.ndarray:
    WRITERS[kind](frame, path)
    found = read_file(FileDataset(path=str(path), target="y"), None)
    return np.asarray(found.frame["row"] if isinstance(found, Table) else found["row"])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_row_is_read_around_each_length_of_the_look_ahead(tmp_path: Path, kind: str) -> None:
    for looked_at in sorted(LOOKED_AT):
        # One row more or less, for the row of the names and for one of units.
        for rows in range(max(1, looked_at - 2), looked_at + 3):
            count = np.arange(rows)
            frame = pd.DataFrame({"row": count, "c": np.where(count % 2, "u", "v"), "y": count % 3})
            found = _read(frame, tmp_path / f"t{rows}.{kind}", kind)
            assert found.astype(int).tolist() == count.tolist(), rows


def test_every_row_is_read_around_the_end_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_fast, "_BLOCK", 1 << 10)
    for rows in range(85, 120):
        frame = pd.DataFrame({"row": np.arange(rows), "c": "u" * 5, "y": np.arange(rows) % 3})
        assert _read(frame, tmp_path / f"t{rows}.csv", "csv").astype(int).tolist() == list(range(rows))
