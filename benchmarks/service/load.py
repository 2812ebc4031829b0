"""Mixed requests at a given rate, whether or not the server keeps up with it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.percentiles import milliseconds
from benchmarks.service.http import Answer, Connection

LOOP = {"model": {"kind": "external", "steps": 100_000}, "metric": "loss", "budget": {"trials": 400}}
STUDIES, TRIALS = 20, 8
READS, REPORTS = 0.7, 0.2
# What refuses instead of letting wait.
REFUSED = (429, 503)
Call = Callable[[Connection], Coroutine[Any, Any, Answer]]


class Mix:
    """Seven reads in ten requests, two reports of training, one new study; of studies that were made before."""

    def __init__(self, address: str, key: str, seed: int = 0) -> None:
        self.address, self.key, self.random = address, key, random.Random(seed)
        self.studies: list[str] = []
        self.held: list[tuple[str, dict[str, Any]]] = []
        self.step = itertools.count(1)

    async def prepare(self) -> None:
        """Make the studies, and ask for trials to report of."""
        connection = Connection(self.address, self.key)
        for _ in range(STUDIES):
            made = await connection.call("POST", "/v1/studies?wait=20", LOOP)
            if made.status not in (201, 202):
                raise RuntimeError(f"no study was made: {made.status} {made.body[:200]!r}")
            self.studies.append(made.json()["id"])
        for study in self.studies[:4]:
            for number in range(TRIALS):
                client = f"client-{number}"
                asked = await connection.call("POST", f"/v1/studies/{study}/ask", {"client_id": client, "wait_s": 20.0})
                trial = asked.json()["trial"]
                if trial is not None:
                    path = f"/v1/studies/{study}/trials/{trial['number']}/report"
                    self.held.append((path, {"client_id": client, "token": trial["token"]}))
        connection.close()

    def draw(self) -> tuple[str, Call]:
        """What to ask next: its name, and how."""
        dice, study = self.random.random(), self.random.choice(self.studies)
        if dice < READS:
            what = self.random.choice(
                ("/v1/studies?limit=50", f"/v1/studies/{study}", f"/v1/studies/{study}/trials?limit=100")
            )
            return "read", lambda connection: connection.call("GET", what)
        if dice < READS + REPORTS:
            path, mine = self.random.choice(self.held)
            points = [{"step": next(self.step), "loss": self.random.random()}]
            return "report", lambda connection: connection.call("POST", path, {**mine, "points": points})
        return "create", lambda connection: connection.call("POST", "/v1/studies", LOOP)


async def offered(mix: Mix, rate: float, seconds: float, connections: int, *, patient: bool) -> dict[str, Any]:
    """Requests at ``rate`` a second. ``patient``: times count from when a request was due, so that waiting for a connection is
    seen; else from when it was sent, and what finds no connection is not sent.
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(mix.address, mix.key))
    times: dict[str, list[float]] = {}
    refusals: list[float] = []
    statuses: Counter[int] = Counter()
    unsent = 0

    async def one(name: str, call: Call, connection: Connection | None, due: float) -> None:
        if connection is None:
            connection = await free.get()
        answer = await call(connection)
        free.put_nowait(connection)
        statuses[answer.status] += 1
        took = time.perf_counter() - due if patient else answer.seconds
        (refusals if answer.status in REFUSED else times.setdefault(name, [])).append(1000 * took)

    running: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()
    for i in itertools.count():
        due = begun + i / rate
        if due > begun + seconds:
            break
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        name, call = mix.draw()
        if not patient and free.empty():
            unsent += 1
            await asyncio.sleep(0)
            continue
        task = asyncio.create_task(one(name, call, None if patient else free.get_nowait(), due))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    spent = time.perf_counter() - begun
    while not free.empty():
        free.get_nowait().close()
    all_times = [value for values in times.values() for value in values]
    return {
        "offered_per_s": rate,
        "answered_per_s": round(sum(statuses.values()) / spent, 1),
        **milliseconds(all_times),
        "by_kind": {name: milliseconds(values) for name, values in times.items()},
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "refused": len(refusals),
        "refused_p99_ms": milliseconds(refusals).get("p99_ms"),
        "not_sent": unsent,
    }


async def recovered_after(mix: Mix, limit_s: float = 30.0) -> float:
    """Seconds until ten reads in a row take less than a tenth of a second each."""
    connection, begun, good = Connection(mix.address, mix.key), time.perf_counter(), 0
    while good < 10 and time.perf_counter() - begun < limit_s:
        answer = await connection.call("GET", f"/v1/studies/{mix.studies[0]}")
        good = good + 1 if answer.status == 200 and answer.seconds < 0.1 else 0
        await asyncio.sleep(0.02)
    connection.close()
    return round(time.perf_counter() - begun, 2)
