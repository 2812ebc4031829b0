"""A PostgreSQL of the benchmark's own, durable as in production."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.conftest import free_port

OPTIONS = {"fsync": "on", "listen_addresses": "127.0.0.1", "max_connections": "500", "shared_buffers": "256MB"}
STARTS_S = 60.0


@contextmanager
def postgres(given: str | None = None) -> Iterator[str]:
    """URL of the maintenance database: of a cluster that lives as long as the block, or ``given``. Raises RuntimeError where
    there is none.
    """
    if given is not None:
        yield given
        return
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    binary = str(found[-1]) if found else shutil.which("postgres")
    if binary is None:
        raise RuntimeError("PostgreSQL (initdb, postgres) was not found; give a --url")
    # The server refuses to run as root, so root borrows the system user that the package made.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="whichopt-scale-"))
    if user is not None:
        shutil.chown(folder, user, user)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "user": user, "group": user}
    arguments = ["-D", "data", "-U", "whichopt", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run([str(Path(binary).with_name("initdb")), *arguments], check=True, **quiet)  # type: ignore[call-overload]
    port = free_port()
    options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
    options += ["-c", f"unix_socket_directories={folder}"]
    process = subprocess.Popen([binary, "-D", "data", "-p", str(port), *options], **quiet)  # type: ignore[call-overload]
    url = f"postgresql://whichopt@127.0.0.1:{port}/postgres"
    try:
        _wait(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str) -> None:
    until = time.monotonic() + STARTS_S
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@contextmanager
def fresh(maintenance: str, name: str) -> Iterator[str]:
    """URL of a new, migrated database, dropped at the end."""
    from service.db import migrate

    with psycopg.connect(maintenance, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    url = maintenance.rsplit("/", 1)[0] + f"/{name}"
    migrate.upgrade(url)
    try:
        yield url
    finally:
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
