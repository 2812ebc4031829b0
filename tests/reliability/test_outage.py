"""A PostgreSQL that stops, is killed, has no connection left, or is asked by a process whose clock is wrong."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from optim_core.spec.trial import UnitResult
from service.db import Database, DatabaseUnavailable
from service.db.models import Event, Study
from service.operations import planning, queue, studies
from service.operations.queue import Claim
from service.settings import Settings
from tests.api.api_support import SPEC, check_problem, make_client
from tests.db.support import make_result, make_spec, make_unit
from tests.e2e.cli_support import client_of, environment
from tests.e2e.test_cluster import process, reachable, wait_for
from tests.servers import Postgres, free_port, wait_until
from workers import serving, training
from workers.runner import Outcome, run_one

HOUR_S = 3600.0


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Of this test's own: it is stopped."""
    with Postgres() as made:
        yield made


def ask_everything(client: TestClient, study: str) -> list[Any]:
    return [
        client.get("/v1/studies"),
        client.get(f"/v1/studies/{study}"),
        client.get(f"/v1/studies/{study}/trials"),
        client.get(f"/v1/studies/{study}/recommendation"),
        client.get(f"/v1/studies/{study}/events"),
        client.get("/v1/artifacts"),
        client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "away"}),
        client.post(f"/v1/studies/{study}/cancel"),
        client.delete(f"/v1/studies/{study}"),
        client.get("/metrics"),
    ]


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_while_postgresql_is_away_every_answer_is_503_and_then_all_is_as_before(
    server: Postgres, tmp_path: Path, number: int
) -> None:
    database = Database(server.url)
    database.migrate()
    client = make_client(database, data_dir=tmp_path / "data")
    study = client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "here"}).json()["id"]
    server.end(number)
    for answer in ask_everything(client, study):
        check_problem(answer, 503, "database_unavailable")
        assert answer.headers["retry-after"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    server.start()
    assert client.get(f"/v1/studies/{study}").json()["status"] == "checking"
    again = client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "here"})
    assert again.json()["id"] == study
    assert client.post("/v1/studies", json=SPEC, headers={"Idempotency-Key": "away"}).status_code == 202
    assert len(client.get("/v1/studies").json()["items"]) == 2
    database.dispose()


@pytest.mark.service
@pytest.mark.timeout(600)
def test_a_postgresql_that_is_frozen_keeps_nobody_waiting(server: Postgres, tmp_path: Path) -> None:
    database = Database(server.url)
    database.migrate()
    client = make_client(database, data_dir=tmp_path / "data")
    study = client.post("/v1/studies", json=SPEC).json()["id"]
    server.signal_everyone(signal.SIGSTOP)
    try:
        # Its kernel still acknowledges; that these end before it goes on is what is shown.
        for answer in (client.get(f"/v1/studies/{study}"), client.post(f"/v1/studies/{study}/cancel")):
            check_problem(answer, 503, "database_unavailable")
            assert answer.headers["retry-after"]
    finally:
        server.signal_everyone(signal.SIGCONT)
    wait_until(lambda: client.get(f"/v1/studies/{study}").status_code == 200, "an answer")

    def frozen_before_its_commit() -> None:
        with database.write() as session:
            session.add(Event(study_id=study, id=99, type="test", data={}, at=0.0))
            session.flush()
            server.signal_everyone(signal.SIGSTOP)

    try:
        with pytest.raises(DatabaseUnavailable, match="has not answered for 6 s"):
            frozen_before_its_commit()
    finally:
        server.signal_everyone(signal.SIGCONT)
    wait_until(lambda: client.get(f"/v1/studies/{study}").status_code == 200, "an answer")
    database.dispose()


def test_without_a_free_connection_the_answer_is_overloaded_and_later_it_is_there(
    database: Database, tmp_path: Path
) -> None:
    client = make_client(database, data_dir=tmp_path / "data")
    study = studies.create_study(database, make_spec()).id
    enough, release = threading.Barrier(51), threading.Event()

    def hold() -> None:
        with database.read() as session:
            session.connection()
            enough.wait(60)
            release.wait(120)

    holders = [threading.Thread(target=hold) for _ in range(50)]
    for holder in holders:
        holder.start()
    enough.wait(60)
    try:
        answer = client.get(f"/v1/studies/{study}")
        check_problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"]
        assert client.get("/healthz").status_code == 200
    finally:
        release.set()
        for holder in holders:
            holder.join()
    assert client.get(f"/v1/studies/{study}").status_code == 200


@pytest.mark.parametrize("wrong_s", [HOUR_S, -HOUR_S])
def test_leases_and_times_are_the_databases_whatever_a_workers_clock_says(
    database: Database, monkeypatch: pytest.MonkeyPatch, wrong_s: float
) -> None:
    began = database.now()
    study = studies.create_study(database, make_spec()).id
    planning.apply_plan(database, study, [make_unit("a", [0]), make_unit("b", [1])], "test")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong_s)

    def train(claim: Claim, *_: object) -> UnitResult:
        assert queue.heartbeat(database, claim.unit_id, claim.token, 60.0) == "ok"
        assert queue.sweep(database).requeued == []
        return make_result(claim.unit)

    monkeypatch.setattr(training, "train", train)
    settings = Settings(lease_s=60.0, heartbeat_s=15.0)
    assert run_one(database, settings, "w") == (Outcome.DONE, study)
    assert run_one(database, settings, "w") == (Outcome.DONE, study)
    ended = database.now()
    with database.read() as session:
        times = list(session.scalars(select(Event.at)))
        found = session.scalars(select(Study)).one()
    assert all(began <= at <= ended for at in times), (began, times, ended)
    assert 0 <= found.device_s <= ended - began


@pytest.mark.service
@pytest.mark.timeout(900)
def test_a_server_that_starts_while_postgresql_is_away_waits_for_it(server: Postgres, tmp_path: Path) -> None:
    server.end(signal.SIGINT)
    port = free_port()
    env = environment(tmp_path, WHICHOPT_DATABASE_URL=server.url, WHICHOPT_PORT=str(port))
    with process(tmp_path, env, "serve", "--no-worker") as served:

        def noticed() -> bool:
            logs = "".join(path.read_text() for path in tmp_path.glob("serve-*.log"))
            return "the database cannot answer" in logs or served.poll() is not None

        wait_for(noticed, "a server that waits", 300)
        assert served.poll() is None
        server.start()
        with client_of(tmp_path, f"http://127.0.0.1:{port}") as client:
            wait_for(lambda: served.poll() is not None or reachable(client), "the API", 300)
            assert served.poll() is None
            assert client.list_studies()["items"] == []


def test_a_server_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE_S", 0.0)
    database = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    with pytest.raises(DatabaseUnavailable):
        serving.migrate_patiently(database)
    database.dispose()
