"""A PostgreSQL of the benchmark's own, durable as in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.servers import Postgres


@contextmanager
def postgres(given: str | None = None) -> Iterator[str]:
    """URL of the maintenance database: of a cluster that lives as long as the block, or ``given``. Raises FileNotFoundError
    where there is none.
    """
    if given is not None:
        yield given
        return
    with Postgres(max_connections="500", shared_buffers="256MB") as server:
        yield server.url


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
