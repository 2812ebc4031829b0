"""HTTP/1.1 as plain as it gets, so that the client takes little of the cores that it shares with the server."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """``status`` 0: the connection broke. ``seconds`` from the request to the last byte."""

    status: int
    seconds: float
    body: bytes = b""

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Connection:
    """One connection to the server, kept; opened again when it was closed."""

    def __init__(self, address: str, key: str) -> None:
        self._where, self._key = urlsplit(address), key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None, headers: str = "") -> Answer:
        """Send a request and read its answer."""
        begun = time.perf_counter()
        try:
            if self._writer is None or self._reader is None:
                self._reader, self._writer = await asyncio.open_connection(self._where.hostname, self._where.port)
            content = b"" if body is None else json.dumps(body).encode()
            kind = "Content-Type: application/json\r\n" if body is not None else ""
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self._where.netloc}\r\nAuthorization: Bearer {self._key}\r\n"
                f"{kind}{headers}Content-Length: {len(content)}\r\n\r\n"
            )
            self._writer.write(head.encode() + content)
            status, answer, kept = await _answer(self._reader)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return Answer(0, time.perf_counter() - begun)
        if not kept:
            self.close()
        return Answer(status, time.perf_counter() - begun, answer)

    def close(self) -> None:
        """Close it; the next call opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    return int(lines[0].split()[1]), body, fields.get("connection") != "close"
