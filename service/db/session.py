"""Sessions: one transaction for one operation, closed at the edge. Nobody else calls commit."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from service.db.base import db_epoch
from service.db.engine import make_engine
from service.db.errors import translate
from service.db.models import DEFAULT_PROJECT
from service.db.ownership import PROJECT, confine
from service.logs import Outage

log = logging.getLogger("whichopt.database")


class ReadSession(Session):
    """A session whose transaction may only read; the database refuses writes."""


class WriteSession(ReadSession):
    """A session that commits when its block ends without an exception."""


confine(ReadSession)


class Database:
    """The one handle to a database. Create it after a fork: connections must not be shared between processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._info: dict[str, str] = {}
        self._engine = make_engine(url)
        self.dialect = self._engine.dialect.name
        self._readers = self._engine.execution_options(postgresql_readonly=True)
        self._writers = self._engine.execution_options(write=True)
        # SQLite has one writer, for whom others wait by sleeping and looking again, up to a tenth of a second each time.
        # Threads of one process need not: they wait here, and go on the moment that it is their turn.
        self._turn = threading.Lock() if self.dialect == "sqlite" else nullcontext()
        self._outage = Outage(log, "the database cannot answer")

    def of(self, project_id: str | None) -> Database:
        """The same database as one project sees it: rows of others do not exist, and new rows are its own. None: as it is."""
        own = copy.copy(self)
        own._info = {} if project_id is None else {PROJECT: project_id}
        return own

    @property
    def project_id(self) -> str:
        """Whose rows are written."""
        return self._info.get(PROJECT, DEFAULT_PROJECT)

    @property
    def scope(self) -> str | None:
        """The one project whose rows it sees; None: those of all."""
        return self._info.get(PROJECT)

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A read-only transaction. Raises DatabaseUnavailable when the database cannot answer now."""
        with self._guard(), ReadSession(self._readers, expire_on_commit=False, info=self._info) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """A transaction that commits at the end of the block and rolls back on any exception."""
        session = WriteSession(self._writers, expire_on_commit=False, info=self._info)
        with self._guard(), self._turn, session, session.begin():
            yield session

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            passing = translate(error)
            if passing is None:
                raise
            self._outage.away(f"{passing.code}, {passing}")
            raise passing from error
        self._outage.back()

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
