"""CSV files that cannot be used: each is refused with its code, in one line that says where."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import pytest

from optim_core.data import TableInfo, inspect, prepare
from optim_core.spec.errors import DataError
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

ROWS = [f"{i},{i * 0.5 + 1},{'ab'[i % 2]}" for i in range(60)]
GOOD = "\n".join(["a,b,label", *ROWS]) + "\n"


def spec_for(path: Path, target: str = "label", **rest: Any) -> StudySpec:
    dataset = FileDataset(
        path=str(path), target=target, format=rest.pop("format", None), features=rest.pop("features", None)
    )
    return StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset, **rest)


def look(path: Path, **rest: Any) -> TableInfo:
    spec = spec_for(path, **rest)
    return inspect(spec.dataset, spec)


def refusal(path: Path, content: bytes | str, **rest: Any) -> DataError:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        look(path, **rest)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.pointer.startswith("/")
    assert str(path.parent) not in message
    return caught.value


def test_a_good_table_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(GOOD)
    found = look(tmp_path / "t.csv")
    assert (found.task, found.metric, found.direction) == ("classification", "accuracy", "maximize")
    assert found.classes == ["a", "b"]
    assert found.columns == {"b": "number"}
    assert any("'a': it only numbers the rows" in sentence for sentence in found.report)
    assert found.rows == {"train": 36, "validation": 12, "test": 12}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"\x7fELF\x02\x01" + bytes(50), "ELF"),
        (bz2.compress(GOOD.encode()), "bzip2"),
        (gzip.compress(b"PAR1" + bytes(40), mtime=0), "Parquet"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"PK\x03\x04" + bytes(40), "zip"),
        (b"PAR1" + bytes(40), "Parquet"),
        (b"\x80\x04\x95" + bytes(40), "pickle"),
        (b"\x93NUMPY\x01\x00", "numpy.savez"),
    ],
)  # fmt: skip
def test_other_formats_named_csv(tmp_path: Path, content: bytes, said: str) -> None:
    error = refusal(tmp_path / "t.csv", content)
    assert error.code == "unsupported_format"
    assert said in str(error)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("", "empty_file", "empty"),
        ("\n \n\n", "empty_file", "empty"),
        ("a,b,label\n", "too_few_rows", "0 rows"),
        ("a,b,label\n1,2,x\n", "too_few_rows", "1 row;"),
        ("label,b,label\n" + "\n".join(ROWS), "duplicate_column", "several columns are named 'label'"),
        (GOOD.replace(",a\n", "\n"), "malformed_table", "line 2: has 2 fields"),
        (GOOD + "1,2,a,4\n", "malformed_table", "line 62: has 4 fields"),
        (GOOD.replace("\n5,", "\n\x005,"), "malformed_table", "line 7: holds a NUL"),
        (GOOD.replace("\n7,", "\r7,"), "malformed_table", "line 8: holds a carriage return"),
        (GOOD + '1,"2,a\n', "malformed_table", "line 62"),
        (GOOD + '1,"2"x,a\n', "malformed_table", "line 62"),
        (",".join(f"c{i}" for i in range(200_000)) + "\n", "too_many_columns", "200,000 columns"),
        (b"a" * (9 << 20), "malformed_table", "line 1: longer than"),
    ],
)
def test_broken_tables(tmp_path: Path, content: str | bytes, code: str, said: str) -> None:
    error = refusal(tmp_path / "t.csv", content)
    assert error.code == code
    assert said in str(error)


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (lambda i: "", "target_empty"),
        (lambda i: "NA", "target_empty"),
        (lambda i: "yes", "single_class"),
        (lambda i: "3.5", "target_constant"),
        (lambda i: f"name {i}", "target_unique"),
        (lambda i: f"2024-01-{i % 28 + 1:02d}", "unsupported_dtype"),
        (lambda i: "a" if i < 9 else "", "too_few_rows"),
    ],
)
def test_targets_that_cannot_be_learned(tmp_path: Path, labels: Any, code: str) -> None:
    table = "x,label\n" + "\n".join(f"{i * i % 17},{labels(i)}" for i in range(60))
    error = refusal(tmp_path / "t.csv", table)
    assert error.code == code
    assert error.pointer.startswith("/dataset")


def test_a_missing_target_names_the_nearest_column(tmp_path: Path) -> None:
    error = refusal(tmp_path / "t.csv", GOOD, target="Lable")
    assert (error.code, error.pointer) == ("target_missing", "/dataset/target")
    assert "did you mean 'label'" in str(error)


def test_features_are_checked_by_name(tmp_path: Path) -> None:
    error = refusal(tmp_path / "t.csv", GOOD, features=["a", "bb"])
    assert (error.code, error.pointer) == ("feature_missing", "/dataset/features/1")
    assert refusal(tmp_path / "t.csv", GOOD, features=["a", "label"]).pointer == "/dataset/features/1"
    assert refusal(tmp_path / "t.csv", GOOD, features=["a", "a"]).code == "duplicate_column"
    assert look(tmp_path / "t.csv", features=["b"]).columns == {"b": "number"}


def test_a_table_without_a_usable_feature(tmp_path: Path) -> None:
    table = "x,y,label\n" + "\n".join(f"7,,{'ab'[i % 2]}" for i in range(30))
    error = refusal(tmp_path / "t.csv", table)
    assert error.code == "no_usable_feature"
    assert "'x': it is constant; 'y': it has no values" in str(error)
    assert refusal(tmp_path / "t.csv", "label\n" + "a\nb\n" * 20).code == "no_usable_feature"


def test_a_metric_of_the_other_task(tmp_path: Path) -> None:
    error = refusal(tmp_path / "t.csv", GOOD, metric="rmse")
    assert (error.code, error.pointer) == ("metric_not_applicable", "/metric")


def test_a_text_target_cannot_be_regressed(tmp_path: Path) -> None:
    error = refusal(tmp_path / "t.csv", GOOD, task="regression")
    assert error.code == "target_not_numeric"
    assert "data row 1: 'a'" in str(error)


def test_the_format_is_needed_where_the_name_does_not_tell(tmp_path: Path) -> None:
    assert refusal(tmp_path / "t.xyz", GOOD).pointer == "/dataset/format"
    assert look(tmp_path / "t.xyz", format="csv").task == "classification"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_ways_to_write_a_table(tmp_path: Path, delimiter: str, mark: str, ending: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes((mark + GOOD.replace(",", delimiter).replace("\n", ending)).encode())
    (tmp_path / "plain.csv").write_text(GOOD)
    assert prepare(spec_for(path)).hash == prepare(spec_for(tmp_path / "plain.csv")).hash
