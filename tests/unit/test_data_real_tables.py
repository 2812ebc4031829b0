"""Real tables of installed packages beside a key that a person wrote: no column is taken for another kind."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections import defaultdict
from pathlib import Path

import pytest
from sklearn import datasets

from optim_core.data import inspect
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec, Training

FOLDERS = {"statsmodels": "datasets", "vega_datasets": "_data"}
USED = ("number", "flag", "date", "category")
# What is no use as a feature may be left out, or taken for what its values look like.
ALLOWED = {"name": {"category"}, "identifier": {"number", "category"}, "constant": set[str]()}


def key() -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    with (Path(__file__).parent / "table_key.tsv").open() as file:
        for table, target, role, columns in csv.reader((row for row in file if row[0] != "#"), delimiter="\t"):
            for column in columns.split(", "):
                years = re.fullmatch(r"(\d{4})-(\d{4})", column)
                names = map(str, range(int(years[1]), int(years[2]) + 1)) if years else [column]
                found[table, target] |= dict.fromkeys(names, role)
    return found


KEY = key()


def path_of(table: str, folder: Path) -> Path:
    package, name = table.split("/", 1)
    if package == "sklearn":
        path = folder / f"{name}.csv"
        getattr(datasets, f"load_{name}")(as_frame=True).frame.to_csv(path, index=False)
        return path
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / FOLDERS[package] / name


def test_there_are_enough_tables() -> None:
    assert len(KEY) >= 40


@pytest.mark.parametrize(("table", "target"), sorted(KEY))
def test_no_column_is_taken_for_another_kind(table: str, target: str, tmp_path: Path) -> None:
    expected = KEY[table, target]
    spec = StudySpec(
        model=CatalogueModel(name="mlp"), dataset=FileDataset(path=str(path_of(table, tmp_path)), target=target),
        training=Training(batch_size=2),
    )  # fmt: skip
    found = inspect(spec.dataset, spec)
    left_out = {name for name in expected if name not in found.columns} - {target}
    assert set(found.columns) <= set(expected), "every column has its row in the key"
    for name, role in expected.items():
        if name == target:
            # Numbers that are few and whole are classes; names are nothing else.
            assert (found.task == "classification") if role == "category" else all(map(is_number, found.classes or []))
        elif role in USED:
            assert found.columns.get(name) == role, name
        else:
            assert name in left_out or found.columns[name] in ALLOWED[role], name


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
