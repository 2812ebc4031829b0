"""Claims as often as a cluster makes them, by processes that do nothing else, so that nobody waits for another's plan.

Each process stands for many workers: it claims, extends leases and gives units back for each of them at the moment when that
worker would. A claim counts from then, so what waits for its process counts, too.
"""

from __future__ import annotations

import heapq
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.percentiles import milliseconds
from benchmarks.scale.cluster import queue_probes
from benchmarks.scale.devices import Task, stream
from service.db import Database
from service.operations import queue

PROCESSES, UNITS, LEASE_S, BEAT_S = 4, 200, 60.0, 15.0


def run(url: str, workers: int, unit_s: float, seconds: float, tasks: Sequence[Task]) -> dict[str, Any]:
    """``workers`` that each hold a unit for ``unit_s`` seconds and then claim another, one of the studies ``tasks``."""
    database = Database(url)
    queue_probes(database, tasks, UNITS)
    database.dispose()
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    names = [[f"w{i:03}" for i in range(workers)][p::PROCESSES] for p in range(PROCESSES)]
    children = [context.Process(target=_process, args=(url, mine, unit_s, seconds, out)) for mine in names]
    for child in children:
        child.start()
    found = [ms for _ in children for ms in out.get(timeout=60 + 2 * seconds)]
    for child in children:
        child.join()
    return {
        "workers": workers, "studies": len(tasks), "unit_s": unit_s, "seconds": seconds, "processes": PROCESSES,
        "claim": milliseconds(found), "load_average": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _process(url: str, names: Sequence[str], unit_s: float, seconds: float, out: Any) -> None:
    database = Database(url)
    begun = time.monotonic() + 1.0
    due: list[tuple[float, int, Callable[[float], None]]] = []
    held: dict[str, queue.Claim] = {}
    times: list[float] = []

    def at(when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(due, (when, len(due) + len(times), action))

    def claim(name: str, when: float) -> None:
        found = queue.claim_unit(database, name, LEASE_S)
        times.append(1000 * (time.monotonic() - when))
        assert found is not None
        held[name] = found
        at(when + unit_s, lambda then: give_back(name, then))
        at(when + BEAT_S, lambda then: beat(name, found, then))

    def give_back(name: str, when: float) -> None:
        own = held.pop(name)
        queue.release_unit(database, own.unit_id, own.token, turn_over=True)
        claim(name, max(when, time.monotonic()))

    def beat(name: str, own: queue.Claim, when: float) -> None:
        if held.get(name) is own:
            queue.heartbeat(database, own.unit_id, own.token, LEASE_S)
            at(when + BEAT_S, lambda then: beat(name, own, then))

    for name in names:
        at(begun + stream("open", name).uniform(0.0, unit_s), lambda when, name=name: claim(name, when))
    while due and due[0][0] < begun + seconds:
        when, _, action = heapq.heappop(due)
        time.sleep(max(0.0, when - time.monotonic()))
        action(when)
    out.put(times)
    database.dispose()
