"""Where files may lie: inside the roots only, links resolved, regular files only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optim_core.data import resolve_path
from optim_core.data.paths import open_regular
from optim_core.spec.errors import DataError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "t.csv").write_text("a,b\n")
    (tmp_path / "secret.csv").write_text("a,b\n")
    monkeypatch.chdir(folder)
    return folder


def code_of(path: str, roots: list[str] | None) -> str:
    with pytest.raises(DataError) as caught:
        resolve_path(path, roots)
    assert caught.value.pointer == "/dataset/path"
    return caught.value.code


def test_files_below_a_root(root: Path) -> None:
    assert resolve_path("t.csv", [str(root)]) == root / "t.csv"
    assert resolve_path(str(root / "t.csv"), ["/nowhere", str(root)]) == root / "t.csv"
    assert resolve_path("../data/t.csv", [str(root)]) == root / "t.csv"


@pytest.mark.parametrize(
    "path",
    ["../secret.csv", "/etc/passwd", "~/x.csv", "file:///etc/passwd", "http://127.0.0.1/x.csv", "%2e%2e%2fsecret.csv",
     "%252e%252e%252fsecret.csv", "..\\secret.csv", "../not-there.csv", "t.csv\x00.png", "/dev/zero", "."],
)  # fmt: skip
def test_paths_that_lead_out(root: Path, path: str) -> None:
    assert code_of(path, [str(root)]) == "path_not_allowed"


def test_links_are_followed_before_the_check(root: Path) -> None:
    (root / "link.csv").symlink_to(root.parent / "secret.csv")
    (root / "inner.csv").symlink_to(root / "t.csv")
    (root / "loop.csv").symlink_to(root / "loop.csv")
    assert code_of("link.csv", [str(root)]) == "path_not_allowed"
    assert resolve_path("inner.csv", [str(root)]) == root / "t.csv"
    assert code_of("loop.csv", [str(root)]) == "file_missing"


def test_no_roots_means_the_persons_own_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert resolve_path("../secret.csv", None) == root.parent / "secret.csv"
    assert resolve_path("~/t.csv", None) == root / "t.csv"
    assert code_of("not-there.csv", None) == "file_missing"
    assert code_of("x" * 3000, None) == "file_missing"
    assert code_of("t.csv/more", None) == "file_missing"


def test_only_regular_files(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    assert code_of("pipe.csv", None) == "path_not_allowed"
    assert code_of(".", None) == "path_not_allowed"
    (root / "link.csv").symlink_to(root / "t.csv")
    with pytest.raises(DataError):
        open_regular(root / "link.csv")  # put there after the path was resolved
    with pytest.raises(DataError):
        open_regular(root / "pipe.csv")
