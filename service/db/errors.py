"""Failures of the database itself, told apart by class and code."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
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


_OVERLOADED = {"53300", "55P03", "57014", "40P01", "40001"}


def translate(error: Exception) -> DatabaseUnavailable | None:
    """The passing failure that ``error`` means, or None when the statement itself is at fault."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("overloaded", "no database connection became free in time")
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig).split("\n")[0]
    if state in {"53100"} or "disk is full" in text:
        return DatabaseUnavailable("storage_full", text)
    if state in _OVERLOADED or "database is locked" in text or "too many" in text:
        return DatabaseUnavailable("overloaded", text)
    lost = error.connection_invalidated or "unable to open database" in text
    psycopg_connection = state is None and type(error.orig).__module__.startswith("psycopg")
    if (
        lost
        or (state or "").startswith(("08", "57P"))
        or (psycopg_connection and type(error).__name__ in {"OperationalError", "InterfaceError"})
    ):
        return DatabaseUnavailable("database_unavailable", text)
    return None
