"""The key of a server for its own account: who can read it, and to whom a client sends it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import httpx2
import pytest

from service import local_key
from service.client import Client


def test_the_first_server_makes_a_key_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    assert local_key.ensure(folder, lambda: "first") == "first"
    assert local_key.ensure(folder, lambda: "second") == "first"
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["key"]


def test_servers_that_begin_at_once_share_one_key(tmp_path: Path) -> None:
    names, found, ready = count(), [], threading.Barrier(8)

    def begin() -> None:
        ready.wait()
        found.append(local_key.ensure(tmp_path, lambda: f"key {next(names)}"))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_could_have_read_is_none(tmp_path: Path, mode: int) -> None:
    local_key.ensure(tmp_path, lambda: "k")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(PermissionError, match="delete it"):
        local_key.ensure(tmp_path, lambda: "k")
    with local_key.announced(tmp_path, "127.0.0.1", 8000):
        assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is None


def test_a_link_in_the_place_of_the_key_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("secret of another program")
    (tmp_path / "other").chmod(0o600)
    (tmp_path / "key").symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        local_key.ensure(tmp_path, lambda: "k")


def test_a_client_sends_the_key_only_where_a_server_of_its_folder_listens(tmp_path: Path) -> None:
    local_key.ensure(tmp_path, lambda: "k")
    with local_key.announced(tmp_path, "127.0.0.1", 8000):
        ours = ("k", "http://127.0.0.1:8000")
        # What a name leads to is for the machine to say: ::1, where another account may listen, often comes first.
        for host in ("127.0.0.1", "localhost", "LOCALHOST"):
            assert local_key.key_for(f"http://{host}:8000", tmp_path) == ours
        # Another account may listen there, or another machine.
        for url in (
            "http://[::1]:8000",
            "http://127.0.0.2:8000",
            "http://[::ffff:127.0.0.1]:8000",
            "https://127.0.0.1:8000",
            "http://127.0.0.1:8001",
            "http://example.org:8000",
            "http://127.0.0.1.example.org:8000",
            "nonsense",
        ):
            assert local_key.key_for(url, tmp_path) is None
    assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is None
    with local_key.announced(tmp_path, "::1", 8000):
        for host in ("[::1]", "[0:0::1]", "localhost"):
            assert local_key.key_for(f"http://{host}:8000", tmp_path) == ("k", "http://[::1]:8000")
        assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is None


def test_the_address_of_a_server_that_was_killed_may_be_anybodys_now(tmp_path: Path) -> None:
    """Whatever process has its id since then: this one."""
    local_key.ensure(tmp_path, lambda: "k")
    left = tmp_path / "serving" / "127.0.0.1:8000"
    left.parent.mkdir()
    left.write_text(str(os.getpid()))
    assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is None
    with local_key.announced(tmp_path, "127.0.0.1", 8000):  # started again
        assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is not None
    assert not left.exists()


def test_a_server_that_is_killed_takes_its_word_with_it(tmp_path: Path) -> None:
    local_key.ensure(tmp_path, lambda: "k")
    code = (
        "import sys, pathlib; from service import local_key\n"
        "with local_key.announced(pathlib.Path(sys.argv[1]), '127.0.0.1', 8000): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is not None
        server.kill()
    assert (tmp_path / "serving" / "127.0.0.1:8000").exists()
    assert local_key.key_for("http://127.0.0.1:8000", tmp_path) is None


def test_a_client_takes_the_key_it_is_given_then_that_of_the_environment_then_its_own_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WHICHOPT_KEY", raising=False)
    sent: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers.get("authorization"))
        return httpx2.Response(200, json={})

    def ask(key: str | None = None) -> None:
        with Client("http://127.0.0.1:8000", key, transport=httpx2.MockTransport(answer)) as client:
            client.health()

    ask()
    local_key.ensure(tmp_path, lambda: "file")
    with local_key.announced(tmp_path, "127.0.0.1", 8000):
        ask()
        monkeypatch.setenv("WHICHOPT_KEY", "environment")
        ask()
        ask("given")
    assert sent == [None, "Bearer file", "Bearer environment", "Bearer given"]


def test_a_client_that_outlives_its_server_sends_the_key_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WHICHOPT_KEY", raising=False)
    local_key.ensure(tmp_path, lambda: "k")
    sent: list[tuple[str, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.url.host, request.headers.get("authorization")))
        return httpx2.Response(200, json={})

    with local_key.announced(tmp_path, "127.0.0.1", 8000):
        client = Client("http://localhost:8000", transport=httpx2.MockTransport(answer))
        client.health()
    client.health()
    client.close()
    assert sent == [("127.0.0.1", "Bearer k"), ("127.0.0.1", None)]


def test_the_folder_of_who_listens_is_its_owners_too(tmp_path: Path) -> None:
    with local_key.announced(tmp_path, "127.0.0.1", 8000):
        assert (tmp_path / "serving" / "127.0.0.1:8000").read_text() == str(os.getpid())
        assert stat.S_IMODE((tmp_path / "serving").stat().st_mode) == 0o700
