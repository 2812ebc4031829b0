"""A Redis that is full refuses every write: workers go on by themselves, as where it is away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from optim_core.spec.states import StudyState
from optim_core.spec.validation import parse_spec
from service.db import Database
from service.dispatch.celery import CeleryDispatcher
from service.operations import studies
from tests.e2e.cli_support import environment, tiny_spec
from tests.e2e.test_cluster import FAST, process, wait_for
from tests.servers import Redis

pytestmark = pytest.mark.service


@pytest.fixture
def server() -> Iterator[Redis]:
    """Of this test's own: what it is told holds for the whole server."""
    with Redis() as made:
        yield made


@pytest.mark.timeout(900)
def test_a_worker_outlives_a_redis_that_is_full_and_trains_meanwhile(
    server: Redis, tmp_path: Path, sqlite: Database
) -> None:
    env = environment(tmp_path, WHICHOPT_DATABASE_URL=sqlite.url, WHICHOPT_BROKER_URL=server.url, **FAST)
    with process(tmp_path, env, "worker", "--queue", "all") as worker, redis.Redis.from_url(server.url) as bell:
        waiting = "BRPOP of the worker"
        wait_for(lambda: any(client["cmd"] == "brpop" for client in bell.client_list()), waiting, 400)
        # A message that it takes out once nothing may be written any more.
        worker.send_signal(signal.SIGSTOP)
        CeleryDispatcher(server.url).nudge("device")
        taken = int(bell.info("commandstats").get("cmdstat_zadd", {}).get("rejected_calls", 0))  # type: ignore[union-attr]
        bell.config_set("maxmemory-policy", "noeviction")
        bell.config_set("maxmemory", "1mb")
        worker.send_signal(signal.SIGCONT)

        def refused() -> bool:
            stats = bell.info("commandstats").get("cmdstat_zadd", {})  # type: ignore[union-attr]
            return int(stats.get("rejected_calls", 0)) > taken or worker.poll() is not None

        wait_for(refused, "a message that could not be noted", 400)
        study = studies.create_study(sqlite, parse_spec(tiny_spec())).id

        def ended() -> bool:
            return worker.poll() is not None or studies.get_study(sqlite, study).status == StudyState.COMPLETED

        wait_for(ended, "the answer", 800)
        assert worker.poll() is None
        # When there is room again, bells are heard again.
        bell.config_set("maxmemory", "0")
        wait_for(lambda: any(client["cmd"] == "brpop" for client in bell.client_list()), waiting, 400)
        assert worker.poll() is None
