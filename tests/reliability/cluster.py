"""The whole service on one machine, of parts that can be struck: PostgreSQL, Redis, the API, Celery workers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from optim_core.spec.states import UnitState
from service.db import Database, DatabaseUnavailable
from service.db.models import Unit
from tests.e2e.cli_support import SCRIPT, environment
from tests.servers import Postgres, Redis, free_port, wait_until


@dataclass(frozen=True)
class Pace:
    """Of a cluster, in seconds. Short, so that recovery is seen soon."""

    lease_s: float = 4.0
    heartbeat_s: float = 1.0
    sweep_s: float = 1.0


QUICK, REAL = Pace(), Pace(60.0, 15.0, 10.0)
# A busy machine may take so long to start a process or to end one.
START_S, STOP_S = 300.0, 30.0


class Part:
    """A command of ours in a process group of its own, started again by whoever struck it."""

    def __init__(self, folder: Path, env: dict[str, str], name: str, *arguments: str) -> None:
        self.folder, self.env, self.name, self.arguments = folder, env, name, arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(SCRIPT), *self.arguments],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal_group(self, number: int) -> None:
        """To the process and all that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal_group(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def terminate(self) -> float:
        """Ask it to end; the seconds that it took, at most twice as long as it may take: then it is killed."""
        began = time.monotonic()
        if self.process is not None and self.alive:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2 * STOP_S)
        took = time.monotonic() - began
        self.kill()
        return took


class Cluster:
    """Use as a context manager. ``address``: of the API; ``database``: a handle of the observer's own. ``lost``: of each unit
    whose worker was killed the study, the key, and when.
    """

    def __init__(self, folder: Path, workers: int = 2, pace: Pace = QUICK) -> None:
        self.folder, self.pace = folder, pace
        self.postgres, self.redis = Postgres(), Redis()
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.env = environment(
            folder, WHICHOPT_DATABASE_URL=self.postgres.url, WHICHOPT_BROKER_URL=self.redis.url,
            WHICHOPT_PORT=str(self.port), WHICHOPT_LEASE_S=str(pace.lease_s), WHICHOPT_HEARTBEAT_S=str(pace.heartbeat_s),
            WHICHOPT_SWEEP_S=str(pace.sweep_s), WHICHOPT_READS_PER_MINUTE="1000000",
            WHICHOPT_SUBMISSIONS_PER_MINUTE="1000000", PYTHONPATH=os.getcwd(),
        )  # fmt: skip
        self.api = Part(folder, self.env, "api", "serve", "--no-worker")
        self.control = Part(folder, self.env, "control", "worker", "--queue", "control")
        self.devices = [Part(folder, self.env, f"device-{n}", "worker", "--queue", "device") for n in range(workers)]
        self.database = Database(self.postgres.url)
        self.lost: list[tuple[str, str, float]] = []

    def held(self) -> list[Unit]:
        """Units that somebody holds; none while the database is away."""
        try:
            with self.database.read() as session:
                return list(session.scalars(select(Unit).where(Unit.state == UnitState.LEASED)))
        except DatabaseUnavailable:
            return []

    @property
    def parts(self) -> list[Part]:
        return [self.api, self.control, *self.devices]

    @property
    def key(self) -> str:
        return (self.folder / "home" / "key").read_text().strip()

    def __enter__(self) -> Cluster:
        self.postgres.start()
        self.redis.start()
        self.database.migrate()
        for part in self.parts:
            part.start()
        wait_until((self.folder / "home" / "key").exists, "the key", START_S)
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            part.signal_group(signal.SIGCONT)
            if part.process is not None and part.alive:
                part.process.send_signal(signal.SIGTERM)
        for part in self.parts:
            part.terminate()
        self.database.dispose()
        self.postgres.close()
        self.redis.close()
