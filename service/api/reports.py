"""Reports of many clients at once, written together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from service.db import Database
from service.operations.reporting import Report, report_all
from service.operations.views import Decision

# Points of one transaction, which others wait for; a single report may have more.
MOST_POINTS = 2000


class Reports:
    """Whoever reports while others are being written waits for that transaction, and goes into the next one with all who came
    meanwhile: so a report takes a thread, a session and a commit when there are few, and a part of them when there are many.
    """

    def __init__(self) -> None:
        # By project, since a session sees the rows of one.
        self._desks: dict[str | None, _Desk] = {}

    async def write(self, database: Database, report: Report, lease_s: float) -> Decision:
        """As ``reporting.report``."""
        desk = self._desks.setdefault(database.scope, _Desk())
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        desk.waiting.append((report, answer))
        if desk.writing is None:
            desk.writing = asyncio.create_task(self._write(database, desk, lease_s))
        return await answer

    async def _write(self, database: Database, desk: _Desk, lease_s: float) -> None:
        try:
            while desk.waiting:
                batch = desk.take()
                answers: Sequence[Decision | Exception]
                try:
                    answers = await run_in_threadpool(report_all, database, [report for report, _ in batch], lease_s)
                except Exception as error:
                    answers = [error] * len(batch)
                for (_, answer), found in zip(batch, answers, strict=True):
                    if answer.done():  # who asked has gone
                        continue
                    if isinstance(found, Exception):
                        answer.set_exception(found)
                    else:
                        answer.set_result(found)
        finally:  # whoever comes next begins anew, even where this was cut off
            del self._desks[database.scope]


_Waiting = tuple[Report, asyncio.Future[Decision]]


@dataclass
class _Desk:
    waiting: list[_Waiting] = field(default_factory=list)
    writing: asyncio.Task[None] | None = None

    def take(self) -> list[_Waiting]:
        """Who came first, up to so many points."""
        points, count = 0, 0
        for report, _ in self.waiting:
            points += len(report.points)
            if count and points > MOST_POINTS:
                break
            count += 1
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        return batch
