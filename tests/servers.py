"""PostgreSQL and Redis of our own on free loopback ports, which may be stopped, killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

# A busy machine may take so long to start one.
START_S = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll until ``ready``; its connection errors count as not yet."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError, redis.ConnectionError, OSError):
            if ready():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not become ready within {timeout_s} s")


def postgres_binary(name: str) -> str | None:
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    return str(packaged[-1]) if packaged else shutil.which(name)


class Server:
    """A process that keeps its data and its port over restarts. Use as a context manager, or ``start`` and ``close`` it. Raises
    FileNotFoundError where it is not installed.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder}

    def start(self) -> None:
        """Start, and wait until it answers. What a killed one left of itself may have to end first."""
        wait_until(self._running, self.name, START_S)

    def _running(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command(), **self.options())
        return self.answers()

    def end(self, number: int, timeout_s: float = 20.0) -> None:
        """End it by a signal; one that does not end is killed."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """A cluster that is durable as in production. ``url``: of its maintenance database; ``settings``: of the server."""

    name = "PostgreSQL"

    def __init__(self, **settings: str) -> None:
        initdb, server = postgres_binary("initdb"), postgres_binary("postgres")
        if initdb is None or server is None:
            raise FileNotFoundError("PostgreSQL (initdb, postgres)")
        super().__init__(Path(tempfile.mkdtemp(prefix="whichopt-pg-")))
        self._server = server
        self._settings = {"max_connections": "200", "shared_buffers": "64MB", **settings}
        # The server refuses to run as root, so root borrows the system user that the package made.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.folder, self._user, self._user)
        arguments = ["-D", "data", "-U", "whichopt", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run([initdb, *arguments], check=True, **self.options())
        self.url = f"postgresql://whichopt@127.0.0.1:{self.port}/postgres"

    def options(self) -> dict[str, Any]:
        return {**super().options(), "user": self._user, "group": self._user}

    def command(self) -> list[str]:
        settings = {
            "fsync": "on",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            **self._settings,
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._server, "-D", "data", "-p", str(self.port), *given]

    def answers(self) -> bool:
        psycopg.connect(self.url, connect_timeout=2).close()
        return True

    def everyone(self) -> list[int]:
        """The postmaster and all of its processes."""
        if self.process is None:
            return []
        found = [self.process.pid]
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # The name may hold blanks, what follows its bracket does not.
                parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid:
                    found.append(int(status.parent.name))
        return found

    def signal_everyone(self, number: int) -> None:
        """Freeze, or let go on."""
        for pid in self.everyone():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Redis(Server):
    """Without persistence: what it held is gone after a restart."""

    name = "Redis"

    def __init__(self) -> None:
        server = shutil.which("redis-server")
        if server is None:
            raise FileNotFoundError("redis-server")
        super().__init__(Path(tempfile.mkdtemp(prefix="whichopt-redis-")))
        self._server = server
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [self._server, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
