"""Engines: SQLite with WAL and honest write locks, PostgreSQL with short timeouts and a pool for 40 API threads."""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, create_engine, event, make_url

from service import private

BUSY_TIMEOUT_MS = 30_000
STATEMENT_TIMEOUT_MS = 5_000
# For so long a writer looks every so often whether SQLite's one write lock is free; then SQLite waits for it.
_SOON_S, _LOOK_S = 0.25, 0.0005
_dumps = partial(json.dumps, allow_nan=False, separators=(",", ":"))


def parse_url(url: str) -> URL:
    """The URL with our driver filled in. Raises ValueError for anything but a SQLite file or PostgreSQL."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ValueError(f"database {backend!r} is not supported; use sqlite:///FILE or postgresql://…")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("an in-memory SQLite database cannot be shared with workers; use sqlite:///FILE")
    return parsed


def make_engine(url: str) -> Engine:
    """The engine of a running process. A connection option ``write`` decides how a SQLite transaction begins."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        private.sqlite(Path(str(parsed.database)))
        engine = create_engine(
            parsed,
            json_serializer=_dumps,
            pool_size=20,
            max_overflow=30,
            pool_timeout=5,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        )
        event.listen(engine, "connect", partial(_sqlite_pragmas, foreign_keys=True))
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    # What needs no PostgreSQL need not read its driver.
    from service.db import frozen

    engine = create_engine(
        parsed,
        json_serializer=_dumps,
        pool_size=20,
        max_overflow=30,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args=_postgres_arguments(f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"),
    )
    event.listen(engine, "do_connect", frozen.connect)
    return engine


def make_migration_engine(url: str) -> Engine:
    """One connection without statement timeout, and on SQLite without foreign keys: batch mode rebuilds tables."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        private.sqlite(Path(str(parsed.database)))
        engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", partial(_sqlite_pragmas, foreign_keys=False))
        event.listen(engine, "begin", _sqlite_begin)
        return engine.execution_options(write=True)
    return create_engine(parsed, poolclass=NullPool, connect_args=_postgres_arguments("-c lock_timeout=2000"))


def _postgres_arguments(options: str) -> dict[str, Any]:
    return {
        "connect_timeout": 3,
        "options": f"{options} -c idle_in_transaction_session_timeout=60000",
        "application_name": "whichopt",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 6000,
        # Prepared statements would not survive a pooler between us and the server.
        "prepare_threshold": None,
    }


def _sqlite_pragmas(connection: Any, _record: Any, *, foreign_keys: bool) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _sqlite_begin
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
    cursor.close()


def _sqlite_begin(connection: Any) -> None:
    # A read transaction cannot be upgraded under WAL (SQLITE_BUSY_SNAPSHOT), so writers take the lock at once.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
    if write and _locked_soon(connection.connection.dbapi_connection):
        return
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _locked_soon(connection: sqlite3.Connection) -> bool:
    """Begin to write the moment another process ends its transaction. Those last milliseconds, and SQLite's own waiting sleeps
    longer each time. False when the lock was not to be had so soon.
    """
    until = time.monotonic() + _SOON_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < until:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    return False  # said by the next try, which SQLAlchemy makes
            time.sleep(_LOOK_S)
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
