"""What a person gets wrong: exit code 2, one line that says where, and nothing is stored."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_support import tiny_spec, whichopt, write_spec, write_table

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
FILE = {"kind": "file", "path": "table.csv", "target": "price"}

CASES: dict[str, tuple[Any, str]] = {
    "unknown key": (tiny_spec(search={"optimizrs": ["adam"]}), "/search/optimizrs: unknown key 'optimizrs'; did you mean"),
    "nan": (tiny_spec(equivalence_margin=float("nan")), "/equivalence_margin: must be a finite number"),
    "missing target": (tiny_spec(dataset=FILE | {"target": "prise"}), "/dataset/target: "),
    "low above high": (
        tiny_spec(search={"ranges": {"adamw": {"lr": [1.0, 0.1]}}}),
        "/search/ranges/adamw/lr: adamw.lr has low 1 > high 0.1",
    ),
    "unknown optimizer": (tiny_spec(search={"optimizers": ["adamm"]}), "/search/optimizers/0: unknown optimizer 'adamm'"),
    "text for a number": (tiny_spec(budget={"trials": "5"}), "/budget/trials: "),
    "image named csv": (tiny_spec(dataset=FILE | {"path": "image.csv"}), "/dataset"),
    "empty file": (tiny_spec(dataset=FILE | {"path": "empty.csv"}), "/dataset"),
    "no file": (tiny_spec(dataset=FILE | {"path": "absent.csv"}), "/dataset/path: there is no file"),
    "no budget": (tiny_spec(budget={}), "/budget: give trials"),
    "no mapping": ("- 1\n- 2\n", "spec.yaml: a spec is a mapping"),
    "broken yaml": ("model: {kind: [", "spec.yaml: line 1, column "),
    "python object": ("model: !!python/object/apply:os.system [echo]\n", "spec.yaml: line 1, column 8: "),
    "key twice": ("seed: 1\nseed: 2\n", "spec.yaml: line 2: the key 'seed' occurs twice"),
    "alias bomb": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "the aliases stand for too many values",
    ),
    "alias of itself": ("seed: &a [*a]\n", "an alias contains itself"),
    "binary": (None, "spec.yaml: not a text file"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "table.csv")
    (tmp_path / "image.csv").write_bytes(PNG)
    (tmp_path / "empty.csv").write_bytes(b"")
    return tmp_path


def stored_studies(folder: Path) -> int:
    path = folder / "home" / "whichopt.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as connection:
        count = connection.execute("SELECT count(*) FROM study").fetchone()[0]
    connection.close()
    return count


@pytest.mark.parametrize("name", CASES)
def test_a_bad_spec_is_one_line_and_exit_code_2(folder: Path, name: str) -> None:
    spec, expected = CASES[name]
    path = write_spec(folder, "" if spec is None else spec)
    if spec is None:
        path.write_bytes(PNG)
    done = whichopt(folder, "recommend", path.name, "--json")
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["errors"][0]["message"] in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr
    assert stored_studies(folder) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["recommend"], "give data, a spec file, or --model and --data"),
        (["recommend", "absent.yaml"], "absent.yaml: No such file"),
        (["recommend", "absent.ymal"], "absent.ymal: No such file"),
        (["recommend", "absent.csv", "--target", "y"], "/dataset/path: there is no file"),
        (["recommend", "--model", "mlp", "--data", "digitts"], "did you mean 'digits'?"),
        (["recommend", "--model", "mlp", "--data", "table.csv"], "/dataset/target: the target is required"),
        (["recommend", "--model", "mpl", "--data", "digits", "--budget", "5s"], "/model/name: "),
        (["recommend", "--model", "mlp", "--data", "digits", "--budget", "soon"], "/budget: 'soon' is neither"),
        (["recommend", "--frobnicate"], "No such option: --frobnicate"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["optimizers", "adamm"], "did you mean 'adam'?"),
        (["recommend", "sales.csv", "--target", "y", "--data", "b.csv"], "--data: give sales.csv or --data, not both"),
        (["studies", "list", "--server", "ftp://x"], "is no address"),
        (["studies", "show", "nope"], "there is no study 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_command_line_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], expected: str) -> None:
    done = whichopt(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr


def test_a_server_that_is_not_there_is_exit_code_4(folder: Path) -> None:
    done = whichopt(folder, "studies", "list", env={"WHICHOPT_SERVER": "http://127.0.0.1:9"})
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1


def test_listening_to_everybody_is_exit_code_5(folder: Path) -> None:
    done = whichopt(folder, "serve", "--host", "0.0.0.0")
    assert done.returncode == 5
    assert "no key exists" in done.stderr
    assert "whichopt keys create" in done.stderr


def test_a_wrong_setting_is_named(folder: Path) -> None:
    done = whichopt(folder, "studies", "list", env={"WHICHOPT_LEASE_S": "soon"})
    assert done.returncode == 2
    assert done.stderr.startswith("whichopt: WHICHOPT_LEASE_S: ")
