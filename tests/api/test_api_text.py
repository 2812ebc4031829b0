"""Texts through the API: checked before anything is stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api_support import check_problem, make_client, studies_n


def spec_of(path: Path, **changes: Any) -> dict[str, Any]:
    dataset = {"kind": "file", "path": str(path), "format": "text", **changes.pop("dataset", {})}
    return {
        "model": {"kind": "catalogue", "name": "transformer"}, "dataset": dataset, "budget": {"trials": 5}, **changes,
    }  # fmt: skip


CASES = [
    ("absent.txt", {}, "/dataset/path", "file_missing", "there is no file"),
    ("short.txt", {}, "/dataset", "text_too_short", "about 651"),
    ("empty.txt", {}, "/dataset/path", "empty_file", "empty"),
    ("picture.txt", {}, "/dataset/path", "unsupported_format", "a PNG image"),
    ("nul.txt", {"dataset": {"unit": "characters"}}, "/dataset/path", "not_text", "unit: bytes"),
    (
        "good.txt",
        {"model": {"kind": "catalogue", "name": "gru"}},
        "/model/name",
        "option_not_applicable",
        "transformer",
    ),
    ("good.txt", {"metric": "f1"}, "/metric", "metric_not_applicable", "perplexity, loss"),
    ("good.txt", {"dataset": {"target": "y"}}, "/dataset/target", "option_not_applicable", "no target"),
    ("good.txt", {"dataset": {"format": None}}, "/dataset/target", "field_required", "format: text"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contents = {
        "short.txt": b"too short a text", "empty.txt": b"", "picture.txt": b"\x89PNG\r\n\x1a\n" + b"0" * 9000,
        "nul.txt": b"a\0b" * 3000, "good.txt": b"a good text, long enough. " * 400,
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(("name", "changes", "pointer", "code", "words"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES])
def test_a_text_that_cannot_be_used_is_refused_and_nothing_is_stored(
    database, folder: Path, name: str, changes: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    problem = check_problem(
        make_client(database).post("/v1/studies?wait=30", json=spec_of(folder / name, **changes)), 422, code
    )
    assert problem["errors"][0]["pointer"] == pointer
    assert words in problem["errors"][0]["detail"]
    assert studies_n(database) == 0


def test_a_text_is_stored_with_its_metric(database, folder: Path) -> None:
    client = make_client(database)
    study = client.post("/v1/studies", json=spec_of(folder / "good.txt")).json()
    assert (study["metric"], study["direction"], study["dataset"]) == ("perplexity", "minimize", "good.txt")
    bundled = spec_of(folder, dataset={})
    bundled["dataset"] = {"kind": "builtin", "name": "python_docs", "unit": "characters"}
    assert client.post("/v1/studies", json=bundled).status_code == 202


def test_a_text_outside_the_roots_is_refused(database, folder: Path) -> None:
    client = make_client(database, data_roots=[folder / "data"])
    check_problem(client.post("/v1/studies?wait=30", json=spec_of(folder / "good.txt")), 422, "path_not_allowed")
    assert studies_n(database) == 0
