"""What is done to a running cluster, each by the row of the failure matrix that it is of."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psycopg
import redis

from service.db.models import Unit
from service.dispatch.celery import CeleryDispatcher
from tests.reliability.cluster import STOP_S, Cluster, Part

Strike = Callable[[Cluster, random.Random], str | None]


def _device(cluster: Cluster, draw: random.Random) -> Part:
    return draw.choice(cluster.devices)


def pid_of(unit: Unit) -> int:
    """The process that holds it."""
    return int(str(unit.worker_id).rsplit("-", 1)[1])


def _lose(cluster: Cluster, units: list[Unit]) -> None:
    cluster.lost += [(unit.study_id, unit.key, time.time()) for unit in units]


def kill_worker(cluster: Cluster, draw: random.Random) -> None:
    part = _device(cluster, draw)
    held = [unit for unit in cluster.held() if part.process is not None and _group(pid_of(unit)) == part.process.pid]
    part.kill()
    _lose(cluster, held)
    part.start()


def _group(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def kill_child(cluster: Cluster, draw: random.Random) -> str | None:
    """Only the process of the pool that trains; Celery starts another."""
    held = cluster.held()
    if not held:
        return "nobody held a unit"
    unit = draw.choice(held)
    with suppress(ProcessLookupError):
        os.kill(pid_of(unit), signal.SIGKILL)
        _lose(cluster, [unit])
    return None


def end_worker(cluster: Cluster, draw: random.Random) -> str | None:
    part = _device(cluster, draw)
    took = part.terminate()
    part.start()
    return None if took <= STOP_S else f"VIOLATION R7: it took {took:.1f} s to end"


def freeze_worker(cluster: Cluster, draw: random.Random) -> None:
    part = _device(cluster, draw)
    part.signal_group(signal.SIGSTOP)
    time.sleep(2 * cluster.pace.lease_s)
    part.signal_group(signal.SIGCONT)


def kill_control(cluster: Cluster, draw: random.Random) -> None:
    cluster.control.kill()
    cluster.control.start()


def flush(cluster: Cluster, draw: random.Random) -> None:
    with redis.Redis.from_url(cluster.redis.url) as bell:
        bell.flushall()


def restart_redis(cluster: Cluster, draw: random.Random) -> None:
    cluster.redis.end(signal.SIGKILL)
    time.sleep(draw.uniform(0, 3))
    cluster.redis.start()


def ring_often(cluster: Cluster, draw: random.Random) -> None:
    bell = CeleryDispatcher(cluster.redis.url)
    for _ in range(100):
        bell.nudge(draw.choice(("device", "control")))


def freeze_redis(cluster: Cluster, draw: random.Random) -> None:
    process = cluster.redis.process
    if process is not None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        process.send_signal(signal.SIGCONT)


def fill_redis(cluster: Cluster, draw: random.Random) -> None:
    with redis.Redis.from_url(cluster.redis.url) as bell:
        bell.config_set("maxmemory-policy", "noeviction")
        bell.config_set("maxmemory", "1mb")
        time.sleep(4)
        bell.config_set("maxmemory", "0")


def restart_postgres(cluster: Cluster, draw: random.Random) -> None:
    cluster.postgres.end(signal.SIGINT)
    time.sleep(draw.uniform(0, 6))
    cluster.postgres.start()


def kill_postgres(cluster: Cluster, draw: random.Random) -> None:
    cluster.postgres.end(signal.SIGKILL)
    time.sleep(draw.uniform(0, 2))
    cluster.postgres.start()


def freeze_postgres(cluster: Cluster, draw: random.Random) -> None:
    cluster.postgres.signal_everyone(signal.SIGSTOP)
    time.sleep(8)
    cluster.postgres.signal_everyone(signal.SIGCONT)


def cut_connections(cluster: Cluster, draw: random.Random) -> None:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'whichopt' AND random() < 0.5"
    )
    for _ in range(3):
        with psycopg.connect(cluster.postgres.url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(query)
        time.sleep(0.5)


def kill_api(cluster: Cluster, draw: random.Random) -> None:
    cluster.api.kill()
    cluster.api.start()


def end_api(cluster: Cluster, draw: random.Random) -> None:
    cluster.api.terminate()
    cluster.api.start()


STRIKES: Mapping[str, Strike] = {
    "F1 kill -9 of a worker": kill_worker,
    "F1 kill -9 of the process that trains": kill_child,
    "F1 kill -9 of the worker that plans": kill_control,
    "F3 SIGTERM of a worker": end_worker,
    "F5 a worker frozen for two leases": freeze_worker,
    "F8 FLUSHALL": flush,
    "F8 kill -9 of Redis": restart_redis,
    "F8 a hundred bells": ring_often,
    "F9 Redis frozen": freeze_redis,
    "F9 Redis full": fill_redis,
    "F11 PostgreSQL stopped and started": restart_postgres,
    "F12 kill -9 of the postmaster": kill_postgres,
    "F13 PostgreSQL frozen": freeze_postgres,
    "F14 half of all connections cut": cut_connections,
    "F27 kill -9 of the API": kill_api,
    "F29 SIGTERM of the API": end_api,
}
