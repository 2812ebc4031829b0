"""How many threads requests have: few, since they share one interpreter, and more as some of them wait for something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio.to_thread import current_default_thread_limiter

# Threads that run Python at a time. With forty, the one that accepts and refuses got its turn a second late.
AT_ONCE = 6
# And at most, with those that wait: for a database or a disk that does not answer, a file that is read elsewhere.
MOST = 40
# Whoever has had a thread for so long is not computing: a request takes some hundredths of a second.
LOOK_S = 0.25
# Requests that wait for a thread. Whoever comes then would wait longer than it takes to ask again.
MOST_WAITING = 28


def crowded() -> bool:
    """Whether as many wait as may."""
    return current_default_thread_limiter().statistics().tasks_waiting >= MOST_WAITING


@asynccontextmanager
async def few_threads() -> AsyncIterator[None]:
    """Inside, on this event loop, requests have ``AT_ONCE`` threads, and one more for each that has kept its own for long."""
    limiter = current_default_thread_limiter()
    limiter.total_tokens = AT_ONCE

    async def look() -> None:
        before: set[object] = set()
        while True:
            await asyncio.sleep(LOOK_S)
            now = set(limiter.statistics().borrowers)
            limiter.total_tokens = min(MOST, AT_ONCE + len(before & now))
            before = now

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
