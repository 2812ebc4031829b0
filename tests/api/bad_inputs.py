"""Hostile requests by the byte, and a server of its own process to send them to. See ``test_bad_inputs``."""

from __future__ import annotations

import json
import re
import select
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.cli_support import SCRIPT, environment

MIB = 1 << 20


@dataclass(frozen=True)
class World:
    """A running server. ``keys``: owner, reader, foreign and revoked; ``ids``: of what is stored, by name."""

    port: int
    process: psutil.Process
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Rows of every table, read behind the server's back."""
        with closing(sqlite3.connect(f"file:{self.folder}/home/whichopt.db?mode=ro", uri=True)) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}

    def files(self) -> list[Path]:
        """What lies in the folder of uploads."""
        while True:
            # A folder may go while it is looked into: the server tidies up after its answer.
            with suppress(FileNotFoundError):
                return sorted(path for path in (self.folder / "home" / "artifacts").rglob("*") if path.is_file())

    def rss(self) -> int:
        """Bytes of memory that the server holds."""
        return self.process.memory_info().rss

    def complaints(self) -> list[str]:
        """Lines of the log above WARNING."""
        lines = (self.folder / "log").read_text().splitlines()
        return [line for line in lines if re.search(r'"level": "(error|critical)"|Traceback', line)]


@dataclass(frozen=True)
class Request:
    """``head`` and ``body`` go out as they are; ``{key}`` and the like in the head are filled in from the world."""

    head: bytes
    body: Iterable[bytes] = (b"",)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of a problem document; empty for anything else."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return json.loads(self.body)["code"]


def request(
    method: str, path: str, body: bytes | Iterable[bytes] = b"", *, key: str | None = "owner", host: str = "127.0.0.1",
    length: int | None = None, **headers: str,
) -> Request:  # fmt: skip
    """A well-formed request around whatever is in it. Underscores in names of headers are hyphens."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {{{key}}}")
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        if body and "Content-Type" not in given:
            given["Content-Type"] = "application/json"
        given["Content-Length"] = str(len(body) if length is None else length)
        body = (body,)
    lines += [f"{name}: {value}" for name, value in given.items() if value]
    return Request("\r\n".join([*lines, "", ""]).encode("latin-1"), body)


def post(path: str, document: Any, **more: Any) -> Request:
    """JSON as Python writes it, NaN included; bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return request("POST", path, body, **more)


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as chunks of a body whose end is never told."""
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


def send(world: World, sent: Request, timeout_s: float = 30.0) -> Answer:
    """Send until an answer comes. Raises AssertionError where the server ends the connection without one."""
    values = {**world.keys, **world.ids}
    head = re.sub(rb"\{(\w+)\}", lambda found: values[found[1].decode()].encode(), sent.head)
    with socket.create_connection(("127.0.0.1", world.port), timeout=timeout_s) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head)
            for piece in sent.body:
                connection.sendall(piece)
                if select.select([connection], [], [], 0)[0]:
                    break
        answer = HTTPResponse(connection, method="GET")
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, b"" if head.startswith(b"HEAD") else answer.read())


@contextmanager
def a_server(folder: Path, prepare: Callable[[World], None], **settings: str) -> Iterator[World]:
    """``whichopt serve`` without workers, its log in a file. ``prepare`` stores what requests name."""
    (folder / "tables").mkdir()
    more = {f"WHICHOPT_{name.upper()}": value for name, value in settings.items()}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(SCRIPT), "serve", "--port", "0", "--no-worker"], cwd=folder / "tables", env=environment(folder, **more),
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert server.stderr is not None
        port = 0
        while not port:
            line = server.stderr.readline()
            assert line, "the server did not start"
            found = re.search(rb"serving on http://[0-9.]+:(\d+)", line)
            port = int(found[1]) if found else 0
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
        world = World(port, psutil.Process(server.pid), folder)
        world.keys["owner"] = (folder / "home" / "key").read_text().strip()
        try:
            prepare(world)
            yield world
        finally:
            server.terminate()
            server.wait(30)
            server.stderr.close()
            drain.wait(30)
