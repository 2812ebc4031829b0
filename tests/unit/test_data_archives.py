"""Parquet and NPZ: what is read, and the hostile files that are refused before they cost memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optim_core.data import Arrays, prepare
from optim_core.spec.errors import DataError
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

N = 60
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(N, 4)), np.arange(N) % 3


def read(path: Path, target: str = "y", **rest: Any) -> Arrays:
    dataset = FileDataset(path=str(path), target=target, **rest)
    return prepare(StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset))


def code_of(path: Path, **rest: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **rest)
    assert "\n" not in str(caught.value)
    return caught.value.code


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in entries.items():
            target.writestr(name, data)
    return path


def plain(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_npz_gives_what_the_same_csv_gives(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", x=X, y=Y)
    pd.DataFrame(X).assign(y=Y).to_csv(tmp_path / "t.csv", index=False)
    npz, csv = read(tmp_path / "t.npz"), read(tmp_path / "t.csv")
    np.testing.assert_allclose(npz.x_train, csv.x_train, atol=1e-6)
    assert npz.feature_names == ["x[0]", "x[1]", "x[2]", "x[3]"]


def test_npz_byte_order_text_targets_and_fortran_order(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow"])[Y]
    np.savez(tmp_path / "a.npz", x=X, y=names)
    np.savez(tmp_path / "b.npz", x=np.asfortranarray(X.astype(">f8")), y=names[:, None])
    assert read(tmp_path / "a.npz").classes == ["ant", "bee", "cow"]
    assert read(tmp_path / "a.npz").hash == read(tmp_path / "b.npz").hash


@pytest.mark.parametrize(
    ("shape", "expected"), [((N, 5, 6), (1, 5, 6)), ((N, 3, 5, 6), (3, 5, 6)), ((N, 5, 6, 3), (3, 5, 6))]
)
def test_npz_images(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    np.savez(tmp_path / "t.npz", x=RNG.integers(0, 255, shape).astype(np.uint8), y=Y)
    arrays = read(tmp_path / "t.npz")
    assert arrays.feature_shape == expected
    np.testing.assert_allclose(arrays.x_train.mean(axis=(0, 2, 3)), 0, atol=1e-5)


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (npy(HEADER % "(1000000000000,)"), "malformed_array"),
        (npy(HEADER % "(1000000000,)"), "malformed_array"),
        (npy(HEADER % "(-1,)", bytes(8)), "malformed_array"),
        (npy(HEADER % "(0, -5)"), "malformed_array"),
        (npy("(" * 110), "malformed_array"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "malformed_array"),
        (npy(HEADER % "(60,)", bytes(16)), "malformed_array"),
        (npy("__import__('os')"), "malformed_array"),
        (b"not an array", "malformed_array"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (60,), }", b"cos\nsystem\n"), "object_array"),
        (plain(np.array(3.0)), "unsupported_dtype"),
        (plain(X[:, 0].astype(complex)), "unsupported_dtype"),
        (plain(np.zeros(N, dtype=[("a", "f4"), ("b", "f4")])), "unsupported_dtype"),
        (plain(np.zeros(N, dtype="datetime64[s]")), "unsupported_dtype"),
    ],
)
def test_npz_arrays_that_are_refused(tmp_path: Path, entry: bytes, code: str) -> None:
    assert code_of(archive(tmp_path / "t.npz", {"x.npy": entry, "y.npy": plain(Y)})) == code


@pytest.mark.parametrize(
    "entries",
    [
        {"../x.npy": plain(X), "y.npy": plain(Y)},
        {"x.txt": b"1", "y.npy": plain(Y)},
        {f"a{i}.npy": b"" for i in range(1001)},
    ],
    ids=["path", "name", "many"],
)
def test_npz_archives_that_are_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    assert code_of(archive(tmp_path / "t.npz", entries)) == "malformed_archive"


def test_npz_duplicate_names_links_bombs_and_cuts(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("x.npy", plain(X))
        with pytest.warns(UserWarning, match="Duplicate name"):
            target.writestr("x.npy", plain(X))
    assert code_of(path) == "malformed_archive"
    link = zipfile.ZipInfo("x.npy")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(link, "/etc/passwd")
    assert code_of(path) == "malformed_archive"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target, target.open("x.npy", "w") as entry:
        for _ in range(1100):
            entry.write(bytes(1 << 20))
    assert path.stat().st_size < 2 << 20
    assert code_of(path) == "too_large_unpacked"
    np.savez(path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-40])
    assert code_of(path) == "malformed_archive"
    path.write_bytes(b"hello")
    assert code_of(path) == "unsupported_format"


def test_npz_shapes_that_do_not_fit_together(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    for arrays in ({"x": X[:50], "y": Y}, {"x": X, "y": X}, {"x": RNG.normal(size=(N, 2, 2)), "z": X, "y": Y}):
        np.savez(path, **arrays)
        assert code_of(path) == "malformed_array"


def frame() -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=N, freq="D")
    return pd.DataFrame(
        {
            "number": X[:, 0], "whole": pd.array([None, 1, 2] * 20, dtype="Int64"), "flag": Y > 1, "day": days,
            "name": pd.Categorical(["u", "v"] * 30), "y": Y,
        }
    )  # fmt: skip


def test_parquet_types_become_what_csv_text_becomes(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "t.parquet", index=False)
    frame().to_csv(tmp_path / "t.csv", index=False)
    parquet, csv = read(tmp_path / "t.parquet"), read(tmp_path / "t.csv")
    assert parquet.feature_names == csv.feature_names
    np.testing.assert_allclose(parquet.x_train, csv.x_train, atol=1e-6)
    assert parquet.report[1:] == csv.report[1:]


def cut(data: bytes) -> bytes:
    return data[:-20]


def flip(data: bytes) -> bytes:
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return data[:footer] + bytes(255 - b for b in data[footer : footer + 20]) + data[footer + 20 :]


def flip_page(data: bytes) -> bytes:
    return data[:4] + bytes(255 - b for b in data[4:24]) + data[24:]


@pytest.mark.parametrize("damage", [cut, flip, flip_page])
def test_damaged_parquet(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "t.parquet"
    frame().to_parquet(path, index=False)
    path.write_bytes(damage(path.read_bytes()))
    assert code_of(path) == "malformed_table"


@pytest.mark.parametrize(
    "column",
    [pa.array([[1, 2]] * N), pa.array([{"a": 1}] * N), pa.array([b"x"] * N)],
    ids=["list", "struct", "bytes"],
)
def test_parquet_types_that_are_left_out(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"x": column, "y": Y}), tmp_path / "t.parquet")
    assert code_of(tmp_path / "t.parquet") == "no_usable_feature"
    assert code_of(tmp_path / "t.parquet", target="x") == "unsupported_dtype"
    pq.write_table(pa.table({"x": column, "a": X[:, 0], "y": Y}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert found.feature_names == ["a"]
    assert any(one.startswith("Left out 'x': the type") for one in found.report)


def test_parquet_bombs(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    text = pa.array(["x" * 1_000_000] * 1200).dictionary_encode()
    pq.write_table(pa.table({"x": text, "y": np.arange(1200) % 2}), path)
    assert path.stat().st_size < 1 << 20
    assert code_of(path) == "too_large_unpacked"
    zeros = pa.array(np.zeros(60_000_000, dtype=np.int8))
    pq.write_table(pa.table({"x": zeros, "y": zeros}), path)
    assert code_of(path) == "too_large_unpacked"


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"a,b\n1,2\n")
    assert code_of(tmp_path / "t.parquet") == "unsupported_format"
