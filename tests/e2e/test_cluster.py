"""PostgreSQL, Redis, the API, a control worker and two Celery workers: kill one, flush Redis, and get the same answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import select

from optim_core.spec.states import UnitState
from service.client import Client
from service.db import Database
from service.db.models import Unit
from service.operations import events, queue
from tests.conftest import free_port, postgres_database
from tests.e2e.cli_support import SCRIPT, answer_of, client_of, environment, timeless, tiny_spec, whichopt, write_spec

pytestmark = pytest.mark.service

SPEC = tiny_spec(training={"steps": 1500}, budget={"trials": 8, "seeds": 2})
FAST = {"WHICHOPT_LEASE_S": "4", "WHICHOPT_HEARTBEAT_S": "1", "WHICHOPT_SWEEP_S": "1"}


@contextmanager
def process(folder: Path, env: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours in a process group of its own; ended at the end of the block."""
    log = (folder / f"{'-'.join(arguments)}-{time.monotonic_ns()}.log").open("wb")
    started = subprocess.Popen(
        [str(SCRIPT), *arguments], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            try:
                started.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
        log.close()


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


@pytest.fixture
def cluster(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[tuple[dict[str, str], Database, str]]:
    """(environment, database, address) of a running API without workers."""
    port = free_port()
    with redis.Redis.from_url(redis_url) as bell:
        bell.flushall()
    with postgres_database(postgres_url) as url:
        env = environment(
            tmp_path, WHICHOPT_DATABASE_URL=url, WHICHOPT_BROKER_URL=redis_url, WHICHOPT_PORT=str(port), **FAST
        )
        address = f"http://127.0.0.1:{port}"
        with process(tmp_path, env, "serve", "--no-worker"), client_of(tmp_path, address) as client:
            wait_for(lambda: healthy(client), "a healthy API")
            database = Database(url)
            yield env, database, address
            database.dispose()


def healthy(client: Client) -> bool:
    from service.client import ApiError, Unreachable

    try:
        return bool(client.health())
    except (ApiError, Unreachable):
        return False


def leased(database: Database) -> Unit | None:
    with database.read() as session:
        query = select(Unit).where(Unit.state == UnitState.LEASED, Unit.kind == "train")
        return session.scalars(query).first()


def all_units(database: Database) -> list[Unit]:
    with database.read() as session:
        return list(session.scalars(select(Unit)).all())


def group_of(unit: Unit) -> int:
    """The process group of the worker that holds ``unit``: its Celery parent leads it."""
    return os.getpgid(int(str(unit.worker_id).rsplit("-", 1)[1]))


@pytest.mark.timeout(600)
def test_killing_a_worker_and_flushing_redis_changes_nothing(
    cluster: tuple[dict[str, str], Database, str], tmp_path: Path
) -> None:
    env, database, address = cluster
    with (
        process(tmp_path, env, "worker", "--queue", "control"),
        process(tmp_path, env, "worker", "--queue", "device") as one,
        process(tmp_path, env, "worker", "--queue", "device") as two,
        client_of(tmp_path, address) as client,
    ):
        study_id = client.create_study(SPEC, idempotency_key="once")["id"]
        assert client.create_study(SPEC, idempotency_key="once")["id"] == study_id
        held = wait_for(lambda: leased(database), "training")
        victim = group_of(held)
        assert victim in (one.pid, two.pid)
        os.killpg(victim, signal.SIGKILL)
        with redis.Redis.from_url(env["WHICHOPT_BROKER_URL"]) as bell:
            bell.flushall()
        wait_for(lambda: client.get_study(study_id)["status"] == "completed", "the answer", 400)
        answer = client.recommendation(study_id)

    units = all_units(database)
    assert {unit.state for unit in units} == {UnitState.DONE}
    assert next(unit for unit in units if unit.id == held.id).attempts >= 2
    told = events.events_after(database, study_id, 0, limit=5000)
    commits = Counter(event.data["unit"] for event in told if event.type == "unit.done")
    assert commits == Counter({unit.key: 1 for unit in units})

    alone = tmp_path / "alone"
    alone.mkdir()
    undisturbed = answer_of(whichopt(alone, "recommend", write_spec(alone, SPEC), "--json"))
    assert timeless(answer) == timeless(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_celery_workers_give_the_answer_of_one_and_split_no_seed(
    cluster: tuple[dict[str, str], Database, str], tmp_path: Path
) -> None:
    """A study of 60 trials; what is compared on a seed is trained in one pack."""
    env, database, address = cluster
    spec = tiny_spec(
        training={"steps": 400}, search={"optimizers": ["momentum", "rmsprop"]}, budget={"trials": 60, "seeds": 6}
    )
    with ExitStack() as stack:
        stack.enter_context(process(tmp_path, env, "worker", "--queue", "control"))
        for _ in range(4):
            stack.enter_context(process(tmp_path, env, "worker", "--queue", "device"))
        client = stack.enter_context(client_of(tmp_path, address))
        wait_for(lambda: len(queue.workers(database)) >= 4, "four workers")
        study_id = client.create_study(spec)["id"]
        wait_for(lambda: client.get_study(study_id)["status"] == "completed", "the answer", 600)
        answer = client.recommendation(study_id)

    units = all_units(database)
    assert len({unit.worker_id for unit in units}) > 1
    packs: dict[tuple[int, int | None], set[int]] = {}
    for unit in units:
        if unit.kind == "confirm" and unit.rung == 0:
            for trial in unit.spec["trials"]:
                packs.setdefault((trial["seed"], unit.spec["fold"]), set()).add(unit.id)
    assert len(packs) >= 6
    assert all(len(of_seed) == 1 for of_seed in packs.values()), packs

    alone = tmp_path / "alone"
    alone.mkdir()
    one = answer_of(whichopt(alone, "recommend", write_spec(alone, spec), "--json"))
    assert timeless(answer) == timeless(one)


@pytest.mark.timeout(600)
def test_a_celery_worker_told_to_end_releases_its_unit(
    cluster: tuple[dict[str, str], Database, str], tmp_path: Path
) -> None:
    env, database, address = cluster
    with (
        process(tmp_path, env, "worker", "--queue", "control"),
        process(tmp_path, env, "worker", "--queue", "device") as device,
        client_of(tmp_path, address) as client,
    ):
        client.create_study(tiny_spec(training={"steps": 60000}))
        held = wait_for(lambda: leased(database), "training")
        started = time.monotonic()
        device.terminate()
        device.wait(40)
        assert time.monotonic() - started < 30
    left = next(unit for unit in all_units(database) if unit.id == held.id)
    assert (left.state, left.attempts) == (UnitState.QUEUED, 0)


@pytest.mark.timeout(600)
def test_without_any_redis_studies_still_end(postgres_url: str, tmp_path: Path) -> None:
    port = free_port()
    with postgres_database(postgres_url) as url:
        env = environment(
            tmp_path, WHICHOPT_DATABASE_URL=url, WHICHOPT_PORT=str(port),
            WHICHOPT_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0", **FAST,
        )  # fmt: skip
        with (
            process(tmp_path, env, "serve", "--no-worker"),
            process(tmp_path, env, "worker", "--queue", "all"),
            client_of(tmp_path, f"http://127.0.0.1:{port}") as client,
        ):
            wait_for(lambda: reachable(client), "the API")
            started = time.monotonic()
            # Nobody waits for the check of the data here, which is the worker's.
            study_id = client._http.post("/v1/studies", json=tiny_spec(), timeout=30).json()["id"]
            assert time.monotonic() - started < 6
            wait_for(lambda: client.get_study(study_id)["status"] == "completed", "the answer", 240)
            assert json.dumps(client.recommendation(study_id))


def reachable(client: Client) -> bool:
    from service.client import Unreachable

    try:
        client.list_studies()
    except Unreachable:
        return False
    return True
