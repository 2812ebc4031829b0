"""Shared fixtures: real servers of our own, and a fresh, migrated database for each test on both engines."""

from __future__ import annotations

import logging
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import psycopg
import pytest

from service.db import Database, migrate
from tests.servers import Postgres, Redis, free_port, wait_until

__all__ = ["free_port", "wait_until"]

_NAMES = count(1)
One = TypeVar("One", Postgres, Redis)


@pytest.fixture(autouse=True)
def nobodys_folders() -> None:
    """What a test before said of a person's files does not count for the next one."""
    loaded = sys.modules.get("optim_core.own.user_code")
    if loaded is not None:
        loaded.roots.clear()


@pytest.fixture(autouse=True)
def draws_of_its_own(request: pytest.FixtureRequest) -> None:
    """What a test draws from its module's generator does not depend on the tests that ran before it."""
    generator = getattr(request.module, "RNG", None)
    if isinstance(generator, np.random.Generator):
        seed = zlib.crc32(request.node.name.encode())
        generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    """What holds for the whole process is the next test's too. The one that changed it fails, not the ones after it.

    Databases that a failed test left open are closed: found by the garbage collector, they would fail a later test.
    """
    opened: list[Database] = []
    opening, disposing = Database.__init__, Database.dispose

    def open_database(self: Database, *args: Any, **options: Any) -> None:
        opening(self, *args, **options)
        opened.append(self)

    def dispose(self: Database) -> None:
        finish_threads()
        disposing(self)

    disabled, folder = logging.root.manager.disable, os.getcwd()
    with patch.object(Database, "__init__", open_database), patch.object(Database, "dispose", dispose):
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


@contextmanager
def running_postgres() -> Iterator[str]:
    """A PostgreSQL cluster of our own on a free loopback port, durable as in production; yields its URL."""
    with _running(Postgres) as server:
        yield server.url


@contextmanager
def _running(kind: type[One]) -> Iterator[One]:
    try:
        server = kind()
    except FileNotFoundError as error:
        _missing(str(error))
        raise
    with server:
        yield server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of a PostgreSQL that lives as long as the session."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis without persistence that lives as long as the session."""
    with _running(Redis) as server:
        yield server.url


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


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    """An empty database of the current schema, in a file of its own."""
    path = tmp_path / "whichopt.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    yield database
    database.dispose()


def finish_threads() -> None:
    """Wait for what the service does beside requests: a connection that outlives its pool is a warning in a later test."""
    for one in threading.enumerate():
        if one.name in ("checker", "housekeeping", "hub"):
            one.join(60)


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh, migrated database of this test's own, on each engine. Other processes reach it by ``database.url``."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite")
        return
    template = request.getfixturevalue("postgres_template")
    with postgres_database(request.getfixturevalue("postgres_url"), template) as url:
        handle = Database(url)
        yield handle
        handle.dispose()
