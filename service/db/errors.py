"""Failures of the database itself, told apart by class and code."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from optim_core.spec.errors import PortableError


class DatabaseUnavailable(PortableError):
    """The database cannot answer now; the same call may succeed later. ``code`` is one of

    ``database_unavailable`` (away or restarting), ``overloaded`` (no connection or lock in time), ``storage_full``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SchemaMismatch(Exception):
    """The database's schema is not the one that this code was written for."""


# SQLSTATEs: too many connections, no lock in time, statement timed out, deadlock, serialization failure.
_OVERLOADED = {"53300", "55P03", "57014", "40P01", "40001"}
_DISK_FULL = "53100"
# Classes of SQLSTATEs: connection exceptions, and a server that shuts down or starts.
_AWAY = ("08", "57P")
_SQLITE = {
    sqlite3.SQLITE_FULL: "storage_full",
    sqlite3.SQLITE_BUSY: "overloaded", sqlite3.SQLITE_LOCKED: "overloaded", sqlite3.SQLITE_PROTOCOL: "overloaded",
    sqlite3.SQLITE_CANTOPEN: "database_unavailable", sqlite3.SQLITE_IOERR: "database_unavailable",
}  # fmt: skip


def translate(error: Exception) -> DatabaseUnavailable | None:
    """The passing failure that ``error`` means, or None when the statement itself is at fault."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("overloaded", "no database connection became free in time")
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    if isinstance(error.orig, sqlite3.Error):
        # The lowest byte of an extended code is the code.
        code = _SQLITE.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    else:
        code = _of_postgres(error, getattr(error.orig, "sqlstate", None))
    return None if code is None else DatabaseUnavailable(code, said(error))


def _of_postgres(error: DBAPIError, state: str | None) -> str | None:
    if state is None:  # nothing came from the server: there is no connection
        return "database_unavailable" if isinstance(error, OperationalError | InterfaceError) else None
    if state == _DISK_FULL:
        return "storage_full"
    if state in _OVERLOADED:
        return "overloaded"
    return "database_unavailable" if error.connection_invalidated or state.startswith(_AWAY) else None


def said(error: Exception) -> str:
    """What is wrong, in a line; of a database's error what the database said, without the statement and its values."""
    told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(told).splitlines() or [""])[0] or type(told).__name__
