"""Each type of Arrow's gives what the same values give as text in a CSV."""

from __future__ import annotations

import datetime as dt
import decimal
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from optim_core.data import prepare
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

N = 60
TIMES = [dt.datetime(2023, 1, 1, 8, 30) + dt.timedelta(days=3 * i, minutes=17 * i, seconds=i) for i in range(N)]
CLOCK: list[Any] = [time.time() if i % 7 else None for i, time in enumerate(TIMES)]
FINER = [None if time is None else time.replace(microsecond=500_000) for time in CLOCK]
TENTHS = [decimal.Decimal(i * 7 % 31) / 10 for i in range(N)]
HALVES = [i * 7 % 31 / 2 for i in range(N)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.time32("s"), CLOCK), (pa.time32("ms"), CLOCK), (pa.time64("us"), CLOCK), (pa.time64("ns"), CLOCK),
        (pa.time64("us"), FINER),
        (pa.date32(), [time.date() for time in TIMES]), (pa.date64(), [time.date() for time in TIMES]),
        (pa.timestamp("s"), TIMES), (pa.timestamp("ns"), TIMES), (pa.timestamp("us", tz="UTC"), TIMES),
        (pa.decimal128(10, 1), TENTHS), (pa.decimal256(40, 1), TENTHS), (pa.float16(), HALVES), (pa.float32(), HALVES),
        (pa.bool_(), [i % 3 == 0 for i in range(N)]), (pa.large_string(), ["uvw"[i % 3] for i in range(N)]),
        (pa.string_view(), ["uvw"[i % 3] for i in range(N)]), (pa.uint64(), [i * 7 % 31 for i in range(N)]),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "dictionary"])
def test_a_type_gives_what_a_csv_gives(tmp_path: Path, kind: pa.DataType, values: list[Any], packed: bool) -> None:
    column = pa.array(values, kind)
    # Arrow makes no dictionary of the others.
    if packed and not (pa.types.is_float16(kind) or pa.types.is_decimal(kind) or pa.types.is_string_view(kind)):
        column = column.dictionary_encode()
    table = pa.table(
        {"t": column, "x": np.random.default_rng(0).normal(size=N).round(3), "y": [i % 2 for i in range(N)]}
    )
    text, parquet, arrow = (io.BytesIO() for _ in range(3))
    frame = table.to_pandas()
    frame["t"] = pd.Series(["" if value is None else str(value) for value in values])
    frame.to_csv(text, index=False)
    pq.write_table(table, parquet)
    feather.write_feather(table, arrow)
    found = {}
    for name, content in (("t.csv", text), ("t.parquet", parquet), ("t.feather", arrow)):
        (tmp_path / name).write_bytes(content.getvalue())
        dataset = FileDataset(path=str(tmp_path / name), target="y")
        found[name] = prepare(StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset))
    assert len({arrays.hash for arrays in found.values()}) == 1, {
        name: one.feature_names for name, one in found.items()
    }
    assert any(name.startswith("t") for name in found["t.parquet"].feature_names)
