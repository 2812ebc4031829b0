"""Whatever bytes a file holds, inspection answers or raises DataError: never anything else, never a warning."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import arff
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import inspect, prepare
from optim_core.spec.errors import DataError
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec, Training

CELLS = ("1", "-2.5", "1e400", "nan", "", "?", "yes", "no", "2024-02-30", "2024-02-28", "1,5", '"x,y"', "red", "0x1F",
         "99999999999999999999999", "0001-01-01", "12/31/9999", "Infinity", "１", "1_000", "\u202e",
         "2024-01-01T25:00")  # fmt: skip
TABLE = "id,when,x,colour,y\n" + "".join(
    f"{i},2024-01-{i % 28 + 1:02d},{i * 0.37:.2f},{('red', 'green', '')[i % 3]},{'ab'[i % 2]}\n" for i in range(40)
)

HEADS = {
    ".csv": b"", ".csv.gz": b"\x1f\x8b\x08", ".npz": b"PK\x03\x04", ".xlsx": b"PK\x03\x04", ".parquet": b"PAR1",
    ".arrow": b"ARROW1\0\0", ".feather": b"\xff\xff\xff\xff", ".jsonl": b"{", ".json": b"[", ".arff": b"@relation t\n",
}  # fmt: skip


def check(content: bytes, suffix: str = ".csv") -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        spec = StudySpec(
            model=CatalogueModel(name="mlp"), dataset=FileDataset(path=str(path), target="y"),
            training=Training(batch_size=2),
        )  # fmt: skip
        refusal = None
        try:
            inspect(spec.dataset, spec)
            prepare(spec)
        except DataError as error:
            refusal = error
        assert refusal is None or (refusal.code and refusal.pointer and "\n" not in str(refusal))


@settings(max_examples=60, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(TABLE) - 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=6
    ),
    end=st.integers(0, len(TABLE)) | st.just(len(TABLE)),
)
def test_mutated_and_truncated_tables(edits: list[tuple[int, int, bytes]], end: int) -> None:
    content = TABLE.encode()
    for start, removed, added in edits:
        content = content[:start] + added + content[start + removed :]
    check(content[:end] if end < len(TABLE) else content)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(CELLS), st.sampled_from(CELLS), st.sampled_from(CELLS)), min_size=10, max_size=40
    ),
    delimiter=st.sampled_from([",", ";"]),
)
def test_tables_of_odd_cells(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    quoted = [delimiter.join(f'"{cell.strip(chr(34))}"' for cell in row) for row in rows]
    check("\n".join([f"u{delimiter}v{delimiter}y", *quoted]).encode())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(sorted(HEADS)))
def test_any_bytes(content: bytes, suffix: str) -> None:
    check(HEADS[suffix] + content, suffix)


def _packed() -> dict[str, bytes]:
    parquet, npz = io.BytesIO(), io.BytesIO()
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    pd.DataFrame({"x": np.arange(40) ** 2 % 7, "d": days, "c": ["u", "v"] * 20, "y": np.arange(40) % 3}).to_parquet(
        parquet
    )
    np.savez_compressed(npz, x=np.arange(80.0).reshape(40, 2), y=np.arange(40) % 3)
    made = {".parquet": parquet.getvalue(), ".npz": npz.getvalue()}
    table, texts = frame(days), pd.DataFrame(frame(days)).assign(d=days.strftime("%d %b %Y"))
    for compression in ("lz4", "zstd", "uncompressed"):
        packed = io.BytesIO()
        feather.write_feather(table.assign(c=table["c"].astype("category")), packed, compression=compression)
        made[f".{compression}.feather"] = packed.getvalue()
    stream, sheet = io.BytesIO(), io.BytesIO()
    arrow = pa.Table.from_pandas(table)
    with pa.ipc.new_stream(stream, arrow.schema) as writer:
        writer.write_table(arrow, max_chunksize=11)
    table.to_excel(sheet, index=False)
    csv = texts.to_csv(index=False)
    kinds = [("x", "REAL"), ("d", "STRING"), ("c", ["u", "v"]), ("y", "NUMERIC")]
    made |= {
        ".arrow": stream.getvalue(), ".xlsx": sheet.getvalue(), ".csv.gz": gzip.compress(csv.encode()),
        ".csv": csv.encode("utf-16"), ".jsonl": texts.to_json(orient="records", lines=True).encode(),
        ".json": texts.to_json(orient="records", indent=1).encode(), ".columns.json": texts.to_json().encode(),
        ".arff": arff.dumps({"relation": "t", "attributes": kinds, "data": texts.to_numpy().tolist()}).encode(),
    }  # fmt: skip
    return made


def frame(days: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(40) ** 2 % 7, "d": days, "c": ["u", "v"] * 20, "y": np.arange(40) % 3})


PACKED = _packed()


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(PACKED)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5)
)
def test_flipped_bytes_in_archives(suffix: str, flips: list[tuple[float, int]]) -> None:
    content = bytearray(PACKED[suffix])
    for place, value in flips:
        content[int(place * (len(content) - 1))] = value
    check(bytes(content), suffix)
