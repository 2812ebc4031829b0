"""Shared fixtures: real servers of our own, and a fresh, migrated database for each test on both engines."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
import redis

from service.db import Database, migrate

_NAMES = count(1)


@pytest.fixture(autouse=True)
def nobodys_folders() -> None:
    """What a test before said of a person's files does not count for the next one."""
    loaded = sys.modules.get("optim_core.own.user_code")
    if loaded is not None:
        loaded.roots.clear()


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    """What holds for the whole process is the next test's too. The one that changed it fails, not the ones after it.

    Databases that a failed test left open are closed: found by the garbage collector, they would fail a later test.
    """
    opened: list[Database] = []
    opening = Database.__init__

    def open_database(self: Database, *args: Any, **options: Any) -> None:
        opening(self, *args, **options)
        opened.append(self)

    disabled, folder = logging.root.manager.disable, os.getcwd()
    with patch.object(Database, "__init__", open_database):
        yield
    for database in opened:
        database.dispose()
    left = {"logging.disable": logging.root.manager.disable, "working folder": os.getcwd()}
    logging.disable(disabled)
    os.chdir(folder)
    assert left == {"logging.disable": disabled, "working folder": folder}


def _missing(what: str) -> None:
    """No server here: a failure where servers are promised, else a skip that says what was not tested."""
    reason = f"{what} was not found, so everything that needs it is UNTESTED in this run"
    if os.environ.get("WHICHOPT_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll until ``ready``; its connection errors count as not yet."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError, redis.ConnectionError, OSError):
            if ready():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not become ready within {timeout_s} s")


def _postgres_binary(name: str) -> str | None:
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    return str(packaged[-1]) if packaged else shutil.which(name)


@contextmanager
def running_postgres() -> Iterator[str]:
    """A PostgreSQL cluster of our own on a free loopback port, durable as in production; yields its URL."""
    initdb, server = _postgres_binary("initdb"), _postgres_binary("postgres")
    if initdb is None or server is None:
        _missing("PostgreSQL (initdb, postgres)")
    # The server refuses to run as root, so root borrows the system user that the package made.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="whichopt-pg-"))
    if user is not None:
        shutil.chown(folder, user, user)
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "user": user, "group": user}
    arguments = ["-D", "data", "-U", "whichopt", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run([str(initdb), *arguments], check=True, **quiet)  # type: ignore[call-overload]
    options = {
        "fsync": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "max_connections": "200",
        "shared_buffers": "64MB",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    process = subprocess.Popen([str(server), "-D", "data", "-p", str(port), *settings], **quiet)  # type: ignore[call-overload]
    url = f"postgresql://whichopt@127.0.0.1:{port}/postgres"
    try:
        wait_until(lambda: psycopg.connect(url, connect_timeout=2).close() is None, "PostgreSQL")
        yield url
    finally:
        process.send_signal(2)  # fast shutdown
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of a PostgreSQL that lives as long as the session."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis without persistence that lives as long as the session."""
    server = shutil.which("redis-server")
    if server is None:
        _missing("redis-server")
    port = free_port()
    folder = tempfile.mkdtemp(prefix="whichopt-redis-")
    command = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> bool:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())

    try:
        wait_until(answers, "Redis")
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def execute(maintenance_url: str, statement: str) -> None:
    """Run a statement that must stand outside a transaction, such as CREATE DATABASE."""
    with psycopg.connect(maintenance_url, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """Name of a migrated, empty database; copying it is much faster than migrating again."""
    name = "whichopt_template"
    execute(postgres_url, f"CREATE DATABASE {name}")
    migrate.upgrade(postgres_url.replace("/postgres", f"/{name}"))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@contextmanager
def postgres_database(postgres_url: str, template: str = "template0") -> Iterator[str]:
    """A new database made from ``template``, dropped at the end; yields its URL."""
    name = f"whichopt_test_{next(_NAMES)}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield postgres_url.rsplit("/", 1)[0] + f"/{name}"
    finally:
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


BOTH = [pytest.param("sqlite", id="sqlite"), pytest.param("postgres", id="postgres", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without any table, on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    with postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield url


def finish_threads() -> None:
    """Wait for what the service does beside requests: a connection that outlives its pool is a warning in a later test."""
    for one in threading.enumerate():
        if one.name in ("checker", "housekeeping", "hub"):
            one.join(60)


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A fresh, migrated database of this test's own, on each engine. Other processes reach it by ``database.url``."""
    if request.param == "sqlite":
        path = tmp_path / "whichopt.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        handle = Database(f"sqlite:///{path}")
        yield handle
        finish_threads()
        handle.dispose()
        return
    template = request.getfixturevalue("postgres_template")
    with postgres_database(request.getfixturevalue("postgres_url"), template) as url:
        handle = Database(url)
        yield handle
        finish_threads()
        handle.dispose()
