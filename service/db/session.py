"""Sessions: one transaction for one operation, closed at the edge. Nobody else calls commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.db.base import db_epoch
from service.db.engine import make_engine
from service.db.errors import translate


class ReadSession(Session):
    """A session whose transaction may only read; the database refuses writes."""


class WriteSession(ReadSession):
    """A session that commits when its block ends without an exception."""


class Database:
    """The one handle to a database. Create it after a fork: connections must not be shared between processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = make_engine(url)
        self.dialect = self._engine.dialect.name
        self._readers = self._engine.execution_options(postgresql_readonly=True)
        self._writers = self._engine.execution_options(write=True)

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A read-only transaction. Raises DatabaseUnavailable when the database cannot answer now."""
        with self._guard(), ReadSession(self._readers, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """A transaction that commits at the end of the block and rolls back on any exception."""
        with self._guard(), WriteSession(self._writers, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            passing = translate(error)
            if passing is None:
                raise
            raise passing from error

    def now(self) -> float:
        """Epoch seconds by the database's clock."""
        with self.read() as session:
            return session.execute(select(db_epoch())).scalar_one()

    def migrate(self) -> None:
        """Bring the schema to this code's version; instant when it is there already."""
        # Alembic takes as long to import as SQLAlchemy, and workers never migrate.
        from service.db import migrate

        with self._guard():
            migrate.upgrade(self.url)

    def check_schema(self) -> None:
        """Raise SchemaMismatch, saying what to do, when the schema is older or newer than this code."""
        from service.db import migrate

        with self._guard():
            migrate.check(self.url)

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()
