"""More requests at once than threads: some wait, whoever comes then is told to come again, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from anyio import to_thread

from service.api.threads import AT_ONCE, MOST, MOST_WAITING, few_threads
from service.app import create_app
from service.db import Database
from service.operations import studies
from service.settings import Settings
from tests.api.api_support import CountingDispatcher, check_problem
from tests.db.support import make_spec
from tests.own_key import AS_OWNER, OWN_KEY

THREADS = 40
PAGE = {"Accept": "text/html,*/*"}


def test_threads_that_wait_for_something_else_hold_up_nobody() -> None:
    """A database that does not answer, a file that is read elsewhere: each such thread gives its place to another."""
    release, began = threading.Event(), []

    def stuck(i: int) -> int:
        began.append(i)
        assert release.wait(60)
        return i

    async def many() -> None:
        async with few_threads():
            limiter = to_thread.current_default_thread_limiter()
            assert limiter.total_tokens == AT_ONCE
            waiting = [asyncio.create_task(to_thread.run_sync(stuck, i)) for i in range(AT_ONCE)]
            # There is no place for it, and yet its turn comes.
            assert await to_thread.run_sync(lambda: "answered") == "answered"
            waiting += [asyncio.create_task(to_thread.run_sync(stuck, i)) for i in range(AT_ONCE, 2 * MOST)]
            while len(began) < MOST:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.6)
            assert len(began) == limiter.total_tokens == MOST
            release.set()
            assert await asyncio.gather(*waiting) == list(range(2 * MOST))
            while limiter.total_tokens > AT_ONCE:
                await asyncio.sleep(0.01)

    asyncio.run(many())


def test_a_crowd_is_refused_at_once_and_those_before_it_are_answered(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = studies.create_study(sqlite, make_spec()).id
    app = create_app(Settings(data_dir=tmp_path, allowed_hosts=["testserver"]), sqlite, CountingDispatcher(), OWN_KEY)
    release, get, began = threading.Event(), studies.get_study, []

    def slow(db: Database, study_id: str) -> object:
        began.append(study_id)
        assert release.wait(60)
        return get(db, study_id)

    monkeypatch.setattr(studies, "get_study", slow)
    path = f"/v1/studies/{study}"

    async def crowd() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=AS_OWNER) as client:
            first = [asyncio.create_task(client.get(path)) for _ in range(THREADS + MOST_WAITING)]
            threads = to_thread.current_default_thread_limiter()
            while len(began) < THREADS or threads.statistics().tasks_waiting < MOST_WAITING:
                await asyncio.sleep(0.01)
            answer = await client.get(path)
            check_problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-content-type-options"] == "nosniff"
            head = await client.head(path)
            assert (head.status_code, head.content) == (503, b"")
            page = await client.get(path, headers=PAGE)
            assert page.status_code == 503
            assert page.headers["content-type"].startswith("text/html")
            assert page.headers["x-content-type-options"] == "nosniff"
            assert (await client.get("/healthz")).status_code == 200
            assert not any(task.done() for task in first)
            release.set()
            assert {answer.status_code for answer in await asyncio.gather(*first)} == {200}
            assert (await client.get(path)).status_code == 200

    asyncio.run(crowd())
