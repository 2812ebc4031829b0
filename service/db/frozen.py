"""A PostgreSQL that is frozen: the kernel goes on acknowledging for it, so that no timeout of TCP ends what waits for it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.errors import OperationalError

# The server ends a statement after five seconds and says so. Who hears nothing for longer waits for nobody.
PATIENCE_S = 6.0


class Impatient(psycopg.Connection[Any]):
    """A connection that is closed where the server has not answered a statement, or a commit, within ``PATIENCE_S``; then
    psycopg's OperationalError without a state of the server is raised. Whether a commit was done is unknown.
    """

    def wait(self, gen: Any, *given: Any, timeout: float | None = None, **named: Any) -> Any:
        """See psycopg; every call that waits for the server comes through here."""
        asked = PATIENCE_S if timeout is None else timeout
        try:
            return super().wait(gen, *given, timeout=asked, **named)
        except OperationalError as error:
            # psycopg's own class for this is private.
            if timeout is not None or error.sqlstate is not None or type(error) is OperationalError:
                raise
            self.pgconn.finish()
            raise OperationalError(f"the server has not answered for {PATIENCE_S:g} s") from error


def connect(_dialect: Any, _record: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Impatient:
    """For SQLAlchemy's ``do_connect``."""
    return Impatient.connect(*given, **named)
