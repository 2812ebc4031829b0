"""Numbers every commit of a writing transaction and every file put into its place, in the order of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, event

from service.db.session import WriteSession

When = Literal["before", "after"]


class Point(NamedTuple):
    """The ``number``-th of all, from 1, and the operation of ours that it belongs to."""

    number: int
    operation: str


class CommitPoints:
    """Counts in this process from ``install`` on; ``at`` is called just before and just after each point.

    The first is called when everything was sent to the database but COMMIT, the second when the database has acknowledged it
    and nobody knows yet.
    """

    def __init__(self, at: Callable[[Point, When], None]) -> None:
        self.at = at
        self.seen: list[Point] = []

    def install(self) -> None:
        event.listen(Engine, "commit", self._before_commit)
        event.listen(WriteSession, "after_commit", self._after_commit)
        replace = os.replace

        def counted(*arguments: Any, **options: Any) -> None:
            point = self._next("rename")
            self.at(point, "before")
            replace(*arguments, **options)
            self.at(point, "after")

        os.replace = counted

    def _before_commit(self, connection: Connection) -> None:
        if connection.get_execution_options().get("write"):
            self.at(self._next(), "before")

    def _after_commit(self, _: WriteSession) -> None:
        # Every writing transaction that ended so went through ``_before_commit`` last.
        self.at(self.seen[-1], "after")

    def _next(self, kind: str = "") -> Point:
        point = Point(len(self.seen) + 1, f"{kind} {_operation()}".strip())
        self.seen.append(point)
        return point


def _operation() -> str:
    """The function of ``service.operations`` that commits, with its module."""
    frame = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("service.operations."):
            return f"{module.rsplit('.', 1)[1]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
