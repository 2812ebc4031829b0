"""What the service bears on this machine, each part beside its goal: medians of several rounds, with the load average.

``make bench-service``. PostgreSQL, the server as ``whichopt serve`` runs it, clients and workers share the cores. The answers
to ask and tell beside those of Optuna and Vizier are ``make bench-ask``; listeners while nothing happens ``make
bench-listeners``; sizes and clusters ``make bench-scale``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.device import RESULTS, device, device_slug
from benchmarks.served import served
from benchmarks.service import live, units
from benchmarks.service.load import Mix, offered, recovered_after
from service.client import Client
from service.db import Database
from service.settings import Settings
from tests.conftest import running_postgres

ROUNDS, SECONDS, RATE = 3, 60.0, 100.0
OVER_RATE, OVER_SECONDS = 500.0, 15.0
# So few at once wait at the server; a browser or an SDK has one or two connections.
CONNECTIONS, OVER_CONNECTIONS = 32, 256
FREELY = {
    "WHICHOPT_READS_PER_MINUTE": "10000000", "WHICHOPT_SUBMISSIONS_PER_MINUTE": "10000000",
    "WHICHOPT_REPORTS_PER_MINUTE": "10000000", "WHICHOPT_STREAMS_PER_KEY": "1000", "WHICHOPT_LOG_LEVEL": "ERROR",
}  # fmt: skip
# Part → (figure, goal, whether more is better).
GOALS: dict[str, list[tuple[str, float, bool]]] = {
    "mixed": [("p95_ms", 100, False), ("p99_ms", 250, False), ("errors", 0, False), ("rss_growth", 0.05, False)],
    "mixed while training": [("p95_ms", 250, False), ("errors", 0, False)],
    "over capacity": [("p99_ms", 1000, False), ("refused_p99_ms", 50, False), ("recovered_after_s", 5, False)],
    "units": [("p95_ms", 30, False), ("units_per_s", 200, True)],
    "claimed again": [("all_claimed_after_s", 90, False)],
    "submitted": [("p95_ms", 2000, False)],
    "news": [("p95_ms", 1000, False), ("missed", 0, False)],
    "upload": [("MB_per_s", 50, True), ("rss_rise_MiB", 64, False)],
}


@contextmanager
def server(folder: Path, database: str, *arguments: str) -> Iterator[tuple[str, int, str]]:
    """(address, process, key) of a server over ``database``."""
    folder.mkdir(parents=True, exist_ok=True)
    with served(folder, *arguments, WHICHOPT_DATABASE_URL=database, **FREELY) as (address, pid):
        yield address, pid, (folder / "key").read_text().strip()


async def _mixed(address: str, key: str, pid: int, rate: float, seconds: float) -> dict[str, Any]:
    mix = Mix(address, key)
    await mix.prepare()
    await offered(mix, rate / 2, min(5.0, seconds), CONNECTIONS, patient=True)
    before = live.memory(pid)
    found = await offered(mix, rate, seconds, CONNECTIONS, patient=True)
    wrong = {status: n for status, n in found["statuses"].items() if status == "0" or status >= "500"}
    return found | {"errors": sum(wrong.values()), "rss_growth": round(live.memory(pid) / before - 1, 3)}


async def _over(address: str, key: str, rate: float, seconds: float) -> dict[str, Any]:
    mix = Mix(address, key)
    await mix.prepare()
    found = await offered(mix, rate, seconds, OVER_CONNECTIONS, patient=False)
    return found | {"recovered_after_s": await recovered_after(mix)}


def _parts(folder: Path, database: str, asked: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """The parts by name, each on a server of its own."""

    def mixed() -> dict[str, Any]:
        with server(folder / "mixed", database, "--workers", "1") as (address, pid, key):
            return asyncio.run(_mixed(address, key, pid, asked.rate, asked.seconds))

    def training() -> dict[str, Any]:
        # Workers are nice as `serve` makes them.
        with (
            server(folder / "training", database, "--workers", "2") as (address, pid, key),
            Client(address, key) as client,
        ):
            spec = {**live.SMALL, "training": {"steps": 2000}, "budget": {"seconds": 10 * asked.seconds + 60}}
            busy = [client.create_study({**spec, "seed": seed})["id"] for seed in range(2)]
            found = asyncio.run(_mixed(address, key, pid, asked.rate, asked.seconds))
            for study in busy:
                client.cancel(study)
            return found

    def over() -> dict[str, Any]:
        with server(folder / "over", database, "--workers", "1") as (address, _, key):
            return asyncio.run(_over(address, key, asked.over_rate, asked.over_seconds))

    def drained() -> dict[str, Any]:
        handle = Database(database)
        try:
            return units.drained(handle)
        finally:
            handle.dispose()

    def again() -> dict[str, Any]:
        handle = Database(database)
        try:
            return units.claimed_again(handle, Settings())
        finally:
            handle.dispose()

    def submitted() -> dict[str, Any]:
        with (
            server(folder / "submitted", database, "--workers", "1") as (address, _, key),
            Client(address, key) as client,
        ):
            return live.submitted(client)

    def news() -> dict[str, Any]:
        with server(folder / "news", database, "--workers", "1") as (address, _, key):
            return asyncio.run(live.news(address, key))

    def upload() -> dict[str, Any]:
        with server(folder / "upload", database, "--no-worker") as (address, pid, key), Client(address, key) as client:
            return live.uploaded(client, pid, folder)

    return {
        "mixed": mixed, "mixed while training": training, "over capacity": over, "units": drained, "claimed again": again,
        "submitted": submitted, "news": news, "upload": upload,
    }  # fmt: skip


def judged(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of what has a goal, and whether each is reached."""
    found = {}
    for figure, goal, more in GOALS[name]:
        values = [one[figure] for one in rounds if one.get(figure) is not None]
        median = statistics.median(values) if values else None
        reached = median is None or (median >= goal if more else median <= goal)
        found[figure] = {"median": median, "goal": goal, "reached": reached}
    return found


def main() -> int:
    """0 where every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of mixed load")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--over-rate", type=float, default=OVER_RATE)
    parser.add_argument("--over-seconds", type=float, default=OVER_SECONDS)
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--out", help="write the result here; 'auto': benchmarks/results/service-<device>.json")
    asked = parser.parse_args()
    # What the client would wait for by itself is none of the server's time.
    gc.collect()
    gc.freeze()
    document: dict[str, Any] = {"device": device(), "rounds": asked.rounds, "parts": {}}
    failed = 0
    for name in GOALS:
        if asked.only is not None and name not in asked.only.split(","):
            continue
        rounds = []
        for _ in range(asked.rounds):
            # One round's rows are not the next one's.
            with tempfile.TemporaryDirectory() as folder, running_postgres() as database:
                handle = Database(database)
                handle.migrate()
                handle.dispose()
                load = os.getloadavg()[0]
                rounds.append(_parts(Path(folder), database, asked)[name]() | {"load_average": round(load, 2)})
        verdict = judged(name, rounds)
        document["parts"][name] = {"goals": verdict, "rounds": rounds}
        failed += sum(not one["reached"] for one in verdict.values())
        print(json.dumps({name: verdict, "load": [one["load_average"] for one in rounds]}), flush=True)
    if asked.out is not None:
        out = RESULTS / f"service-{device_slug(document['device'])}.json" if asked.out == "auto" else Path(asked.out)
        out.write_text(json.dumps(document, indent=1) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
