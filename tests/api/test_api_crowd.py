"""More requests at once than threads: some wait, whoever comes then is told to come again, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from anyio import to_thread

from service.api.edge import MOST_WAITING
from service.app import create_app
from service.db import Database
from service.operations import studies
from service.settings import Settings
from tests.api.api_support import CountingDispatcher, check_problem
from tests.db.support import make_spec
from tests.own_key import AS_OWNER, OWN_KEY

THREADS = 40


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
            assert (await client.get("/healthz")).status_code == 200
            assert not any(task.done() for task in first)
            release.set()
            assert {answer.status_code for answer in await asyncio.gather(*first)} == {200}
            assert (await client.get(path)).status_code == 200

    asyncio.run(crowd())
