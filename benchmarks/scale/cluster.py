"""The product's own workers against a real PostgreSQL: claims, plans, heartbeats, commits; only training is replaced by sleep.

Workers are threads of a few processes. What they do between units is their own time, so on two cores many of them wait for a
processor where a cluster's would not: figures are a lower bound, and the load average stands beside them.
"""

from __future__ import annotations

import multiprocessing
import os
import queue as queues
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.percentiles import milliseconds
from benchmarks.scale import no_training
from benchmarks.scale.devices import Model, Task
from benchmarks.scale.events import jain
from service.db import Database, DatabaseUnavailable
from service.operations import access
from service.operations import studies as operations

PROCESSES = 4
POLL_S = 1.0
LOOK_S = 0.25


@dataclass(frozen=True)
class Asked:
    """``joins``: seconds after the studies were created at which a worker comes; the others are there before.

    ``full_s``, ``chunk_s``: seconds, real ones, of a full training and between two reports. ``seconds``: the end, where studies
    do not end before.
    """

    workers: int
    full_s: float
    seconds: float
    quantum_s: float = 120.0
    best_width: int = 16
    joins: tuple[float, ...] = ()
    chunk_s: float = no_training.CHUNK_S


def run(url: str, asked: Asked, tasks: Sequence[Task]) -> dict[str, Any]:
    """Run ``tasks`` as studies of their projects until all have ended, or the time is over."""
    context = multiprocessing.get_context("spawn")
    stop, begin, out = context.Event(), context.Event(), context.Queue()
    names = [[f"w{i:03}" for i in range(asked.workers)][p::PROCESSES] for p in range(PROCESSES)]
    late = [[(f"late{i:02}", at) for i, at in enumerate(asked.joins)][p::PROCESSES] for p in range(PROCESSES)]
    ready = context.Semaphore(0)
    children = [
        context.Process(target=_process, args=(url, asked, mine, own, ready, begin, stop, out), daemon=True)
        for mine, own in zip(names, late, strict=True)
    ]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    database = Database(url)
    load, created = os.getloadavg()[0], time.time()
    for project in sorted({one.project for one in tasks} - {"default"}):
        access.set_quota(database, project)
    ids = [operations.create_study(database.of(one.project), one.spec).id for one in tasks]
    begin.set()
    while time.time() < created + asked.seconds:
        time.sleep(LOOK_S)
        if all(_ended(database, study_id) for study_id in ids):
            break
    ended = time.time()
    stop.set()
    found = [out.get(timeout=120) for _ in children]
    for child in children:
        child.join(30)
    states = [operations.get_study(database, study_id) for study_id in ids]
    database.dispose()
    project_of = dict(zip(ids, (one.project for one in tasks), strict=True))
    return {
        "workers": asked.workers, "studies": len(ids), "full_training_s": asked.full_s, "quantum_s": asked.quantum_s,
        "chunk_s": asked.chunk_s, "processes": PROCESSES, "wall_s": round(ended - created, 2),
        "ended": sum(one.finished_at is not None for one in states),
        "failed": [one.error.code for one in states if one.error is not None],
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
        **_summary(asked, found, created, ended, project_of),
    }  # fmt: skip


def _ended(database: Database, study_id: str) -> bool:
    return operations.get_study(database, study_id).finished_at is not None


def _summary(
    asked: Asked, found: list[dict[str, Any]], created: float, ended: float, project_of: dict[str, str]
) -> dict[str, Any]:
    spans = [span for one in found for span in one["spans"]]
    busy = later = 0.0
    half = (created + ended) / 2
    shares = dict.fromkeys(project_of.values(), 0.0)
    first: dict[str, float] = {}
    for worker, study, begun, seconds in spans:
        part = max(0.0, min(ended, begun + seconds) - max(created, begun))
        first[worker] = min(first.get(worker, begun), begun)
        shares[project_of[study]] += part
        if not worker.startswith("late"):
            busy += part
            later += max(0.0, min(ended, begun + seconds) - max(half, begun))
    whole = asked.workers * (ended - created)
    summed: dict[str, Any] = {"busy": round(busy / whole, 4), "busy_later": round(2 * later / whole, 4)}
    if len(shares) > 1:
        summed |= {"jain": round(jain(list(shares.values())), 4), "shares": {k: round(v) for k, v in shares.items()}}
    if asked.joins:
        waits = [first[f"late{i:02}"] - created - at for i, at in enumerate(asked.joins) if f"late{i:02}" in first]
        summed["joining"] = {"joined": len(asked.joins), "worked": len(waits), "waits_s": [round(w, 2) for w in waits]}
    for name in ("claim", "commit", "plan"):
        summed[name] = milliseconds([ms for one in found for _, ms in one[name]])
        # At first all workers ask at once for what a hundred studies have not planned yet.
        summed[f"{name}_later"] = milliseconds([ms for one in found for at, ms in one[name] if at > half])
    summed["busy_by_time"] = _by_time(spans, asked.workers, created, ended)
    return summed


def _by_time(spans: list[Any], workers: int, begin: float, end: float) -> list[float]:
    from benchmarks.scale.parts import Span
    from benchmarks.scale.simulated import busy_by_time

    own = [Span(0, study, "", at, at + s) for worker, study, at, s in spans if not worker.startswith("late")]
    return busy_by_time(own, workers, end, begin)


# -- in the processes of the workers ------------------------------------------------------------------------------------


def _process(
    url: str, asked: Asked, names: list[str], late: list[tuple[str, float]], ready: Any, begin: Any, stop: Any, out: Any
) -> None:
    """Threads that are workers, until ``stop``."""
    import logging

    no_training.install(Model(full_s=asked.full_s, best_width=asked.best_width, largest=4 * asked.best_width))
    no_training.CHUNK_S = asked.chunk_s
    import optuna  # noqa: F401

    from optim_core.search import suggest as _  # noqa: F401 - read before the clock starts
    from service.dispatch.null import NullDispatcher
    from service.settings import Settings
    from workers.loop import Loop

    logging.disable(logging.WARNING)
    times: dict[str, list[tuple[float, float]]] = {"claim": [], "commit": [], "plan": []}
    _time_everything(times)
    database = Database(url)
    settings = Settings(database_url=url, quantum_s=asked.quantum_s, poll_s=POLL_S)

    def work(name: str, at: float) -> None:
        begin.wait()
        if stop.wait(at):
            return
        no_training.current.name = name
        loop = Loop(database, settings, NullDispatcher(), name, stop=stop.is_set, longest_wait_s=POLL_S)
        loop.run()

    waits = [(name, 0.0) for name in names] + late
    threads = [threading.Thread(target=work, args=one, daemon=True) for one in waits]
    for thread in threads:
        thread.start()
    ready.release()
    stop.wait()
    # Those that sleep in a unit are not waited for; what they slept so far was noted by chunks.
    until = time.monotonic() + asked.chunk_s + 5
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    out.put({"spans": list(no_training.spans), **{name: list(values) for name, values in times.items()}})
    out.close()
    out.join_thread()
    os._exit(0)


def _time_everything(times: dict[str, list[tuple[float, float]]]) -> None:
    """Note how long claims that found a unit, commits and turns of planners take, the wait for a processor included."""
    from service.operations import queue
    from workers import advance

    def timed(owner: Any, name: str, kept: list[tuple[float, float]]) -> None:
        call = getattr(owner, name)

        def measured(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            answer = call(*given, **named)
            if answer is not None:
                kept.append((time.time(), 1000 * (time.perf_counter() - begun)))
            return answer

        setattr(owner, name, measured)

    timed(queue, "claim_unit", times["claim"])
    timed(queue, "complete_unit", times["commit"])
    timed(advance, "_advance", times["plan"])


# -- claims without anything between them ---------------------------------------------------------------------------------


def queue_probes(database: Database, tasks: Sequence[Task], each: int) -> None:
    """Studies in whose queues so many units wait that nothing is trained in."""
    from optim_core.spec.trial import UnitSpec
    from service.operations import planning

    for one in tasks:
        access.set_quota(database, one.project)
        study_id = operations.create_study(database.of(one.project), one.spec).id
        units = [
            UnitSpec(key=f"u{i}", kind="probe", rung=0, horizon=1, split="validation", trials=[]) for i in range(each)
        ]
        planning.apply_plan(database, study_id, units, "benchmark")


def closed_loop(url: str, clients: int, seconds: float, tasks: Sequence[Task]) -> dict[str, Any]:
    """As many claims and commits as the machine does: ``clients`` threads that train nothing and never wait."""
    from service.operations import queue

    database = Database(url)
    queue_probes(database, tasks, 400)
    times: queues.SimpleQueue[float] = queues.SimpleQueue()
    until = time.monotonic() + seconds

    def client(name: str) -> None:
        while time.monotonic() < until:
            begun = time.perf_counter()
            # More threads than the pool of one process has connections: a worker would look again.
            with suppress(DatabaseUnavailable):
                found = queue.claim_unit(database, name, 60.0)
                if found is None:
                    return
                times.put(1000 * (time.perf_counter() - begun))
                queue.release_unit(database, found.unit_id, found.token, turn_over=True)

    threads = [threading.Thread(target=client, args=(f"c{i}",)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [times.get() for _ in range(times.qsize())]
    database.dispose()
    return {
        "clients": clients, "claims_per_s": round(len(found) / seconds, 1), "claim": milliseconds(found),
        "load_average": round(os.getloadavg()[0], 2),
    }  # fmt: skip
