"""Answers on a connection that is kept leave at once: the sockets of ``serve`` and of the embedded stack set TCP_NODELAY."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.settings import Settings
from workers import serving
from workers.embedded import serve_in_thread
from workers.listener import listen_on


def delays(listener: socket.socket) -> bool:
    """Whether asyncio lets accepted connections of a listener hold answers back."""
    found: list[int] = []

    async def connect() -> None:
        accepted = asyncio.Event()

        async def on_connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            accepted.set()

        async with await asyncio.start_server(on_connect, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            await accepted.wait()
            writer.close()

    # In a thread of its own: a browser that another test started keeps a loop running in this one.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, connect()).result()
    return not found[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_do_not_hold_answers_back(host: str) -> None:
    try:
        listener = listen_on(host, 0)
    except OSError:
        pytest.skip(f"no {host} on this machine")
    assert not delays(listener)


@pytest.mark.parametrize("way", ["serve", "embedded"])
def test_every_way_to_serve_listens_so(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: seen.extend(one.proto for one in sockets))
    if way == "serve":
        serving.serve(Settings(data_dir=tmp_path, port=0), 0)
    else:
        app: Any = None
        with suppress(OSError), serve_in_thread(app):  # what does not run does not start
            pass
    assert seen == [socket.IPPROTO_TCP]
