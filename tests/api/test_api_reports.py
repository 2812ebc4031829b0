"""Many clients report at once: those that come while others are written go together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import reports
from service.app import create_app
from service.db import Database
from service.db.errors import DatabaseUnavailable
from service.operations import planning
from service.operations.reporting import report_all
from service.settings import Settings
from tests.api.api_support import CountingDispatcher, check_problem
from tests.db.support import make_unit
from tests.own_key import AS_OWNER, OWN_KEY

EXTERNAL: dict[str, Any] = {"model": {"kind": "external", "steps": 100}, "metric": "loss", "budget": {"trials": 40}}
CLIENTS = 12


def test_who_reports_while_others_are_written_goes_with_the_next(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(data_dir=tmp_path, allowed_hosts=["testserver"]), sqlite, CountingDispatcher(), OWN_KEY)
    release, batches, fails = threading.Event(), [], []

    def held(db: Database, told: Any, lease_s: float) -> Any:
        batches.append(len(told))
        assert release.wait(60)
        if fails:
            raise DatabaseUnavailable("database_unavailable", "away")
        return report_all(db, told, lease_s)

    monkeypatch.setattr(reports, "report_all", held)

    async def crowd() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=AS_OWNER) as client:
            study_id = (await client.post("/v1/studies", json=EXTERNAL)).json()["id"]
            planning.apply_plan(sqlite, study_id, [make_unit(f"u{i}", [i]) for i in range(CLIENTS)], "plan")
            tokens = []
            for i in range(CLIENTS):
                asked = await client.post(f"/v1/studies/{study_id}/ask", json={"client_id": f"c{i}"})
                assert asked.json()["trial"]["number"] == i
                tokens.append(asked.json()["trial"]["token"])

            async def report(i: int, step: int, token: str | None = None) -> httpx.Response:
                body = {"client_id": f"c{i}", "token": token or tokens[i], "points": [{"step": step, "loss": 0.5}]}
                return await client.post(f"/v1/studies/{study_id}/trials/{i}/report", json=body)

            async def at_once(step: int) -> list[httpx.Response]:
                batches.clear()
                release.clear()
                first = asyncio.create_task(report(0, step))
                while not batches:
                    await asyncio.sleep(0.01)
                # One has the wrong token, one the wrong step, one goes away before it is answered.
                others = [
                    asyncio.create_task(report(i, step, "1.999" if i == 1 else None)) for i in range(1, CLIENTS - 1)
                ]
                others.append(asyncio.create_task(report(CLIENTS - 1, 101)))
                gone = asyncio.create_task(report(2, step + 1))
                while sum(len(desk.waiting) for desk in app.state.context.reports._desks.values()) < CLIENTS:
                    await asyncio.sleep(0.01)
                gone.cancel()
                await asyncio.sleep(0)
                release.set()
                return await asyncio.gather(first, *others)

            answers = await at_once(5)
            assert batches == [1, CLIENTS]
            assert [answer.status_code for answer in answers] == [200, 404, *[200] * (CLIENTS - 3), 422]
            check_problem(answers[1], 404, "trial_not_asked")
            check_problem(answers[-1], 422, "step_out_of_range")
            fails.append(True)
            for answer in await at_once(7):
                check_problem(answer, 503, "database_unavailable")
            fails.clear()
            release.set()
            assert (await report(0, 9)).json() == {"go_on": True, "reason": None}
            assert not app.state.context.reports._desks
            curve = (await client.get(f"/v1/studies/{study_id}/trials/0")).json()["curve"]
            assert [point["step"] for point in curve] == [5, 9]

    asyncio.run(crowd())


def test_a_transaction_takes_so_many_points_and_the_first_report_always() -> None:
    desk = reports._Desk()
    for points in (reports.MOST_POINTS + 1, 1, reports.MOST_POINTS - 1, 1):
        desk.waiting.append((reports.Report("s", 0, "c", "1.1", [None] * points), None))  # type: ignore[arg-type, list-item]
    assert [len(desk.take()) for _ in range(3)] == [1, 2, 1]
    assert not desk.waiting
