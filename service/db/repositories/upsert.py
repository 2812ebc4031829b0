"""INSERT … ON CONFLICT DO UPDATE, which both databases have and SQLAlchemy's own insert does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.base import Base

# Columns as they are stored, and as they come → what is stored then.
Combine = Callable[[Any, Any], dict[str, Any]]


class Upsert:
    """Adds rows of a model; a row whose ``keys`` are there already is changed as ``combine`` says."""

    def __init__(self, model: type[Base], keys: Sequence[str], combine: Combine) -> None:
        table, self._statements = model.__table__, dict[str, Any]()
        for dialect, name in ((sqlite, "sqlite"), (postgresql, "postgresql")):
            statement = dialect.insert(table)
            changed = combine(table.c, statement.excluded)
            self._statements[name] = statement.on_conflict_do_update(index_elements=list(keys), set_=changed)

    def run(self, session: Session, rows: list[dict[str, Any]]) -> None:
        """Many parameter sets for one short statement: a statement of all rows would have to be compiled each time."""
        session.connection().execute(self._statements[session.get_bind().dialect.name], rows)
