"""Who gets in at the command line: the account that runs a server, whoever has a key, and nobody else."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from tests.e2e.cli_support import SCRIPT, TIMEOUT_S, environment, whichopt
from workers.embedded import embedded


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[str, Iterator[str]]]:
    """The address of a server without workers, and what else it says."""
    server = subprocess.Popen(
        [str(SCRIPT), "serve", "--port", "0", "--no-worker", *arguments], cwd=folder, env=environment(folder),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    try:
        lines = iter(server.stderr)
        found = next((m for line in lines if (m := re.search(r"serving on (http://[0-9.]+:\d+)", line))), None)
        assert found is not None
        yield found[1], lines
    finally:
        server.terminate()
        server.communicate(timeout=TIMEOUT_S)


def test_a_server_lets_in_its_own_account_and_whoever_has_a_key(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with serving(tmp_path) as (address, lines):
        # The log may be a file that others read: it has no link that lets in.
        assert (
            json.loads(next(lines))["message"]
            == f"to sign a browser in: {address}/signin and the key in {tmp_path / 'home' / 'key'}"
        )
        key = tmp_path / "home" / "key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        # Without being told: the client finds the file, as the same account would.
        mine = whichopt(tmp_path, "studies", "list", "--server", address)
        assert mine.returncode == 0, mine.stderr
        stranger = whichopt(other, "studies", "list", "--server", address)
        assert stranger.returncode == 5
        assert stranger.stderr.startswith("whichopt: send a key as")
        assert "WHICHOPT_KEY or --key" in stranger.stderr

        made = whichopt(tmp_path, "keys", "create", "--project", "lab", "--name", "ci", "--server", address)
        assert made.returncode == 0, made.stderr
        secret = made.stdout.strip()
        assert secret not in made.stderr
        with_key = whichopt(other, "studies", "list", "--server", address, "--key", secret)
        assert with_key.returncode == 0, with_key.stderr
        # The embedded stack works on the same database.
        listed = whichopt(tmp_path, "keys", "list")
        assert re.search(r"wo_[0-9a-f]{12}_….{4} +lab +key +write +valid +ci", listed.stdout), listed.stdout
        assert secret not in listed.stdout
        first = whichopt(tmp_path, "projects", "quota", "lab", "--studies", "3")
        assert first.stderr.strip() == (
            "whichopt: the project lab may use 3 studies at a time, any number of device seconds, any number of bytes of files"
        )
        more = whichopt(tmp_path, "projects", "quota", "lba", "--device-seconds", "9000", "--studies", "none")
        assert "the new project lba may use any number of studies at a time, 9,000 device seconds" in more.stderr
        assert [whichopt(tmp_path, "projects", "quota", "lab", *a).returncode for a in ((), ("--studies", "x"))] == [
            2,
            2,
        ]
        [lab] = [p for p in json.loads(whichopt(tmp_path, "projects", "list", "--json").stdout) if p["name"] == "lab"]
        assert lab["max_studies"] == 3
        assert whichopt(tmp_path, "keys", "revoke", secret.split("_")[1]).returncode == 0
        assert whichopt(other, "studies", "list", "--server", address, env={"WHICHOPT_KEY": secret}).returncode == 5

    # Nobody listens there any more.
    assert list((tmp_path / "home" / "serving").iterdir()) == []


def test_a_terminal_is_shown_a_link_that_lets_one_browser_in(tmp_path: Path) -> None:
    terminal, inside = os.openpty()
    server = subprocess.Popen(
        [str(SCRIPT), "serve", "--port", "0", "--no-worker"], cwd=tmp_path, env=environment(tmp_path), stderr=inside
    )
    os.close(inside)
    try:
        with open(terminal, closefd=True) as lines:
            link = next(m for line in lines if (m := re.search(r"http://\S+/signin\?ticket=\S+", line)))
            assert [httpx2.get(link[0]).status_code for _ in range(2)] == [303, 401]
            assert (tmp_path / "home" / "key").read_text().strip() not in link[0]
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)


def test_a_key_that_is_for_nobody_is_said_to_be(tmp_path: Path) -> None:
    unused = whichopt(tmp_path, "studies", "list", "--key", "wo_x")
    assert (unused.returncode, "--key: no server is named" in unused.stderr) == (2, True)
    mine = whichopt(tmp_path, "studies", "list", env={"WHICHOPT_KEY": "wo_x"})
    assert (mine.returncode, "this is your own database" in mine.stderr) == (0, True)
    for how in ({"env": {"WHICHOPT_KEY": "ключ"}}, {"env": {"WHICHOPT_KEY": "a\nb"}}):
        no_key = whichopt(tmp_path, "studies", "list", "--server", "http://127.0.0.1:9", **how)
        assert (no_key.returncode, "WHICHOPT_KEY: this is no key" in no_key.stderr) == (2, True)


def test_a_server_for_others_needs_a_key_first_and_has_none_of_its_own(tmp_path: Path) -> None:
    key = whichopt(tmp_path, "keys", "create").stdout.strip()
    with serving(tmp_path, "--host", "0.0.0.0") as (address, _):
        url = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{url}/healthz").status_code == 200
        assert httpx2.get(f"{url}/v1/studies").status_code == 401
        assert httpx2.get(f"{url}/v1/studies", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert not (tmp_path / "home" / "key").exists()


def test_the_embedded_stack_lets_in_its_own_process_alone(tmp_path: Path) -> None:
    with embedded(Settings(data_dir=tmp_path), workers=0) as stack:
        for headers in ({}, {"Authorization": "Bearer wo_"}):
            assert httpx2.get(f"{stack.url}/v1/studies", headers=headers).status_code == 401
        mine = {"Authorization": f"Bearer {stack.key}"}
        assert httpx2.get(f"{stack.url}/v1/studies", headers=mine).status_code == 200
        assert stack.key not in repr(stack)
    assert not (tmp_path / "key").exists()


def test_every_command_that_asks_a_server_takes_a_key() -> None:
    import typer

    from workers.commands import app

    def commands(one: object) -> Iterator[object]:
        yield one
        for child in getattr(one, "commands", {}).values():
            yield from commands(child)

    options = [{p.name for p in c.params} for c in commands(typer.main.get_command(app))]  # type: ignore[attr-defined]
    assert sum("server" in names for names in options) > 12
    assert all(("server" in names) == ("key" in names) for names in options)


@pytest.mark.parametrize("arguments", [("keys", "create", "--scope", "root"), ("keys", "create", "--project", "No!")])
def test_what_is_no_scope_and_no_project_is_bad_input(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = whichopt(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
