"""A thousand listeners on one process while nothing happens: the share of a core that they cost, and what another project's
requests wait for meanwhile.

``make bench-listeners``. A server of this project as ``whichopt serve`` runs it, without workers; half of the listeners share
one study, the others listen to ten. The goal is a tenth of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.served import served
from service.client import Client
from service.db import Database
from service.operations.access import create_key
from workers.listener import allow_files

LISTENERS, STUDIES, SECONDS, SETTLE_S = 1_000, 11, 30.0, 5.0
LOOP = {"model": {"kind": "external", "steps": 9}, "metric": "loss", "budget": {"trials": 5}}
GOAL = 0.10


async def listen(address: str, key: str, study: str) -> asyncio.StreamWriter:
    """A stream that is open, and has said what there is to say."""
    where = urlsplit(address)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"GET /v1/studies/{study}/events HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"id: 1\n")
    return writer


def others(address: str, key: str, seconds: float) -> list[float]:
    """Seconds that each list of another project's studies takes, one a second."""
    found, until = [], time.monotonic() + seconds
    with Client(address, key) as client:
        while time.monotonic() < until:
            begun = time.perf_counter()
            client.list_studies()
            found.append(time.perf_counter() - begun)
            time.sleep(1)
    return found


def cpu(process: psutil.Process) -> float:
    """Seconds of a core that the process has used."""
    used = process.cpu_times()
    return used.user + used.system


async def measure(address: str, process: psutil.Process, owner: str, other: str, n: int, seconds: float) -> bool:
    """Print what is found; whether the goal is reached."""
    with Client(address, owner) as client:
        studies = [client.create_study(LOOP)["id"] for _ in range(STUDIES)]
    writers: list[asyncio.StreamWriter] = []
    for begin in range(0, n, 50):
        part = range(begin, min(n, begin + 50))
        writers += await asyncio.gather(
            *(listen(address, owner, studies[0 if i % 2 else 1 + i // 2 % (STUDIES - 1)]) for i in part)
        )
    await asyncio.sleep(SETTLE_S)
    used, begun = cpu(process), time.monotonic()
    await asyncio.sleep(seconds)
    share = (cpu(process) - used) / (time.monotonic() - begun)
    waits = await asyncio.to_thread(others, address, other, seconds / 3)
    for writer in writers:
        writer.close()
    print(
        f"{n} listeners, nothing happens: {100 * share:.1f} % of a core over {seconds:.0f} s (goal: {100 * GOAL:.0f} %)"
    )
    print(
        f"another project's list: median {1000 * statistics.median(waits):.0f} ms, longest {1000 * max(waits):.0f} ms"
    )
    print(f"memory of the server: {process.memory_info().rss / 2**20:.0f} MiB")
    return share < GOAL


def main() -> int:
    """0 where the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, default=LISTENERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    given = parser.parse_args()
    allow_files()
    with tempfile.TemporaryDirectory() as name, served(Path(name), "--no-worker") as (address, pid):
        database = Database(f"sqlite:///{name}/whichopt.db")
        other = create_key(database, "other", "read").key
        database.dispose()
        owner = (Path(name) / "key").read_text().strip()
        return not asyncio.run(measure(address, psutil.Process(pid), owner, other, given.listeners, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
