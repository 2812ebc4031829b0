"""What people wait for: news on open streams, an upload, the first step of their study."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.percentiles import milliseconds
from benchmarks.service.http import Connection
from benchmarks.service.load import LOOP
from service.client import Client

LISTENERS, EVENTS = 200, 20
UPLOAD_BYTES, SUBMISSIONS = 512 << 20, 20
SMALL = {
    "model": {"kind": "catalogue", "name": "linear"}, "dataset": {"kind": "builtin", "name": "iris"},
    "training": {"steps": 20}, "budget": {"trials": 8},
}  # fmt: skip


async def news(address: str, key: str, listeners: int = LISTENERS, events: int = EVENTS) -> dict[str, Any]:
    """Milliseconds from asking for a trial, which is an event, to each of the listeners having read it."""
    connection = Connection(address, key)
    study = (await connection.call("POST", "/v1/studies?wait=20", LOOP)).json()["id"]
    heard: list[float] = []
    begun: dict[str, float] = {}
    where = urlsplit(address)
    head = f"GET /v1/studies/{study}/events HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"

    async def listen(ready: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(head.encode())
        await reader.readuntil(b"id: 1\n")
        ready.set()
        missing = set(range(events))
        try:
            while missing:
                line = await reader.readline()
                if not line:
                    return
                for i in [i for i in missing if f'"listener-{i}"'.encode() in line]:
                    heard.append(1000 * (time.perf_counter() - begun[f"{i}"]))
                    missing.discard(i)
        finally:
            writer.close()

    ready = [asyncio.Event() for _ in range(listeners)]
    tasks = [asyncio.create_task(listen(one)) for one in ready]
    await asyncio.gather(*(one.wait() for one in ready))
    for i in range(events):
        begun[f"{i}"] = time.perf_counter()
        asked = await connection.call(
            "POST", f"/v1/studies/{study}/ask", {"client_id": f"listener-{i}", "wait_s": 20.0}
        )
        if asked.json()["trial"] is None:
            raise RuntimeError("no trial was to be had")
        await asyncio.sleep(0.5)
    _, late = await asyncio.wait(tasks, timeout=30)
    for task in late:
        task.cancel()
    connection.close()
    return {
        "listeners": listeners, "events": events, "heard": len(heard), "missed": listeners * events - len(heard),
        **milliseconds(heard),
    }  # fmt: skip


def uploaded(client: Client, pid: int, folder: Path, size: int = UPLOAD_BYTES) -> dict[str, Any]:
    """MiB a second of a table of ``size`` bytes, and how far the server's memory rose meanwhile."""
    path = folder / "large.csv"
    line = b"0.123456,1.234567,2.345678,3.456789,4.567890,5.678901,6.789012,1\n"
    with path.open("wb") as file:
        file.write(b"a,b,c,d,e,f,g,y\n")
        block = line * (1 << 14)
        while file.tell() + len(block) < size:
            file.write(block)
    sent = path.stat().st_size
    before, most, stop = memory(pid), 0, [False]

    async def watch() -> None:
        nonlocal most
        while not stop[0]:
            most = max(most, memory(pid))
            await asyncio.sleep(0.05)

    async def both() -> float:
        watching = asyncio.create_task(watch())
        begun = time.perf_counter()
        await asyncio.to_thread(client.upload, path)
        seconds = time.perf_counter() - begun
        stop[0] = True
        await watching
        return seconds

    seconds = asyncio.run(both())
    path.unlink()
    return {
        "MiB": round(sent / 2**20), "seconds": round(seconds, 1), "MB_per_s": round(sent / 1e6 / seconds, 1),
        "rss_rise_MiB": round((most - before) / 2**20, 1),
    }  # fmt: skip


def submitted(client: Client, times: int = SUBMISSIONS) -> dict[str, Any]:
    """Seconds from handing in a small study to its first unit being trained, where the worker has nothing else to do."""
    found = []
    # A worker that has trained before: the first one imports what it trains with.
    for i in range(-1, times):
        begun = time.perf_counter()
        study = client.create_study({**SMALL, "seed": i + 1})["id"]
        while client.get_study(study)["status"] in ("checking", "queued"):
            time.sleep(0.02)
        if i >= 0:
            found.append(1000 * (time.perf_counter() - begun))
        while client.get_study(study)["status"] == "running":
            time.sleep(0.1)
    return {"studies": times, **milliseconds(found)}


def memory(pid: int) -> int:
    """Resident bytes of the server's own process."""
    return psutil.Process(pid).memory_info().rss
