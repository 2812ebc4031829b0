"""Units that train nothing: what a claim and a fenced commit cost, and how soon everything is claimed again after a crash."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from typing import Any

from benchmarks.percentiles import milliseconds
from service.db import Database
from service.operations import queue
from service.settings import Settings
from tests.db.support import make_result, make_unit, study_with_units

STUDIES, UNITS, WORKERS, PROCESSES = 20, 50, 8, 4
LEASED, QUEUED = 100, 1_000


def drained(database: Database, processes: int = PROCESSES) -> dict[str, Any]:
    """Claim and commit all units of some studies, by one worker and then by ``processes``, as workers are processes."""
    _fill(database)
    alone = _drain(database.url, "alone")
    _fill(database)
    # Threads of this process have no part in it: a worker's time is its own.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_open, [database.url] * processes))
        begun = time.perf_counter()
        spent = list(chain.from_iterable(pool.map(_drain, [database.url] * processes, map(str, range(processes)))))
        seconds = time.perf_counter() - begun
    return {
        "units": len(spent), "processes": processes, "units_per_s": round(len(spent) / seconds, 1),
        "busy": milliseconds(spent), **milliseconds(alone),
    }  # fmt: skip


def _fill(database: Database) -> None:
    for _ in range(STUDIES):
        study_with_units(database, [make_unit(f"unit-{i}", [i]) for i in range(UNITS)])


def _open(url: str) -> float:
    """What a process does before it begins: imports, and the first connection."""
    database = Database(url)
    try:
        return database.now()
    finally:
        database.dispose()
        time.sleep(0.2)  # so that each process has its turn


def _drain(url: str, name: str) -> list[float]:
    """Milliseconds that a claim and its commit took, of each unit that this worker had."""
    database, spent = Database(url), []
    try:
        while True:
            begun = time.perf_counter()
            claim = queue.claim_unit(database, name, 60.0)
            if claim is None:
                return spent
            if not queue.complete_unit(database, claim.unit_id, claim.token, make_result(claim.unit)):
                raise RuntimeError("a healthy lease was lost")
            spent.append(1000 * (time.perf_counter() - begun))
    finally:
        database.dispose()


def claimed_again(database: Database, settings: Settings, workers: int = WORKERS) -> dict[str, Any]:
    """Lease a hundred units of eleven hundred and forget them, as if all workers had been killed; seconds until others have had
    each. They sweep as workers do.
    """
    per_study = (LEASED + QUEUED) // STUDIES
    for _ in range(STUDIES):
        study_with_units(database, [make_unit(f"unit-{i}", [i]) for i in range(per_study)])
    lost = [queue.claim_unit(database, f"dead-{i}", settings.lease_s) for i in range(LEASED)]
    fences = {claim.unit_id: claim.token for claim in lost if claim is not None}
    begun, taken, lock = time.perf_counter(), dict[int, float](), threading.Lock()
    total = STUDIES * per_study

    def work(name: str) -> None:
        sweep_at = 0.0
        while len(taken) < total and time.perf_counter() - begun < 300:
            if time.perf_counter() >= sweep_at:
                queue.sweep(database)
                sweep_at = time.perf_counter() + settings.sweep_s
            claim = queue.claim_unit(database, name, settings.lease_s)
            if claim is None:
                time.sleep(settings.poll_s)
                continue
            with lock:
                taken[claim.unit_id] = time.perf_counter() - begun
            queue.complete_unit(database, claim.unit_id, claim.token, make_result(claim.unit))

    in_parallel(work, workers)
    again = [taken[unit] for unit in fences if unit in taken]
    return {
        "units": total, "leased": len(fences), "lease_s": settings.lease_s, "sweep_s": settings.sweep_s,
        "claimed": len(taken), "all_claimed_after_s": round(max(taken.values()), 1),
        "lost_leases_claimed_after_s": round(max(again), 1) if again else None,
    }  # fmt: skip


def in_parallel(work: Any, workers: int) -> None:
    """``work(name)`` in a thread for each worker. Raises what one of them raised."""
    failures: list[BaseException] = []

    def guarded(name: str) -> None:
        try:
            work(name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(f"worker-{i}",)) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
