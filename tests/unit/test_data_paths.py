"""Where files may lie: inside the roots only, links resolved, regular files only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optim_core.data import open_file, paths
from optim_core.data.limits import MAX_FILE_BYTES
from optim_core.spec.errors import DataError
from service.settings import Settings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "t.csv").write_text("a,b\n")
    (tmp_path / "secret.csv").write_text("a,b\n")
    monkeypatch.chdir(folder)
    return folder


def opened(path: str, roots: list[str] | None) -> Path:
    resolved, file = open_file(path, roots)
    with file:
        assert file.read() == resolved.read_bytes()
    return resolved


def code_of(path: str, roots: list[str] | None) -> str:
    with pytest.raises(DataError) as caught:
        open_file(path, roots)
    assert caught.value.pointer == "/dataset/path"
    return caught.value.code


def test_files_below_a_root(root: Path) -> None:
    assert opened("t.csv", [str(root)]) == root / "t.csv"
    assert opened(str(root / "t.csv"), ["/nowhere", str(root)]) == root / "t.csv"
    assert opened("../data/t.csv", [str(root)]) == root / "t.csv"


@pytest.mark.parametrize(
    "path",
    ["../secret.csv", "/etc/passwd", "~/x.csv", "file:///etc/passwd", "http://127.0.0.1/x.csv", "%2e%2e%2fsecret.csv",
     "%252e%252e%252fsecret.csv", "..\\secret.csv", "../not-there.csv", "t.csv\x00.png", "/dev/zero", "."],
)  # fmt: skip
def test_paths_that_lead_out(root: Path, path: str) -> None:
    assert code_of(path, [str(root)]) == "path_not_allowed"


def test_what_begins_with_a_dot_is_read_only_below_a_folder_that_is_named(root: Path) -> None:
    hidden = root / ".cache" / "t.csv"
    hidden.parent.mkdir()
    for file in (hidden, root / ".pgpass"):
        file.write_text("a,b\n")
    (root / "seen.csv").symlink_to(root / ".pgpass")
    for path in (".pgpass", ".cache/t.csv", "seen.csv", ".not-there"):
        assert code_of(path, [str(root)]) == "path_not_allowed"
        assert code_of(path, ["/"]) == "path_not_allowed"
    assert opened(".cache/t.csv", [str(root), str(hidden.parent)]) == hidden
    assert opened(".pgpass", None) == root / ".pgpass"


def test_what_is_the_servers_own_is_not_read_below_a_root(root: Path) -> None:
    own = root / "d"
    upload = own / "artifacts" / "t.csv"
    upload.parent.mkdir(parents=True)
    for file in (upload, own / "key"):
        file.write_text("a,b\n")
    (root / "link.csv").symlink_to(own / "key")
    for path in ("d/key", "d/artifacts/t.csv", "link.csv", "d/not-there"):
        assert code_of(path, [str(root), f"!{own}"]) == "path_not_allowed"
    # But for what somebody was given of it, and nothing beside that.
    assert opened("d/artifacts/t.csv", [str(root), f"!{own}", str(upload.parent)]) == upload
    assert code_of("d/key", [str(root), f"!{own}", str(upload.parent)]) == "path_not_allowed"


def test_links_are_followed_before_the_check(root: Path) -> None:
    (root / "link.csv").symlink_to(root.parent / "secret.csv")
    (root / "inner.csv").symlink_to(root / "t.csv")
    (root / "loop.csv").symlink_to(root / "loop.csv")
    assert code_of("link.csv", [str(root)]) == "path_not_allowed"
    assert opened("inner.csv", [str(root)]) == root / "t.csv"
    assert code_of("loop.csv", [str(root)]) == "file_missing"


def test_no_roots_means_the_persons_own_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert opened("../secret.csv", None) == root.parent / "secret.csv"
    assert opened("~/t.csv", None) == root / "t.csv"
    assert code_of("not-there.csv", None) == "file_missing"
    assert code_of("x" * 3000, None) == "file_missing"
    assert code_of("t.csv/more", None) == "file_missing"


def test_only_regular_files(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")
    assert code_of("pipe.csv", None) == "path_not_allowed"
    assert code_of(".", None) == "path_not_allowed"
    (root / "empty.csv").touch()
    assert code_of("empty.csv", [str(root)]) == "empty_file"
    with (root / "large.csv").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert code_of("large.csv", None) == "too_large"


def test_a_root_that_is_a_link_is_a_root(root: Path) -> None:
    (root.parent / "mounted").symlink_to(root)
    assert opened(str(root.parent / "mounted" / "t.csv"), [str(root.parent / "mounted")]) == root / "t.csv"
    assert opened("t.csv", [str(root.parent / "mounted")]) == root / "t.csv"


@pytest.mark.parametrize("part", ["t.csv", "inner"])
def test_a_link_put_there_after_the_check_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    (root / "inner").mkdir()
    (root / "inner" / "t.csv").write_text("a,b\n")
    (root.parent / "t.csv").write_text("a,secret\n")
    path = root / ("t.csv" if part == "t.csv" else "inner/t.csv")

    def swapped(name: str, *rest: int, **more: int) -> int:
        if name == str(root) or name == root:
            os.rename(root / part, root / "away")
            (root / part).symlink_to(root.parent / "t.csv" if part == "t.csv" else root.parent)
        return really_open(name, *rest, **more)

    really_open = os.open
    monkeypatch.setattr(paths.os, "open", swapped)
    assert code_of(str(path), [str(root)]) == "file_missing"


def test_of_a_path_outside_nothing_is_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    for name in ("open", "stat", "lstat", "readlink"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, real=real, **k: (looked.append(path), real(path, *a, **k))[1])
    assert code_of(str(root.parent / "secret.csv"), [str(root)]) == "path_not_allowed"
    assert not [path for path in looked if "secret" in str(path)]


def test_a_server_in_its_own_data_folder_shows_no_key(root: Path) -> None:
    for name in ("key", "whichopt.db"):
        (root / name).write_text("a,b\n")
    roots = Settings(data_dir=root, own_process=False).roots
    assert opened("t.csv", roots) == root / "t.csv"
    for name in ("key", "whichopt.db"):
        assert code_of(name, roots) == "path_not_allowed"
