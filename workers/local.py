"""A worker as a plain process that polls: all that one machine needs. Run as ``python -m workers.local``."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import IO, TYPE_CHECKING, NoReturn

from service import logs, telemetry
from service.settings import Settings
from workers.collector import without_collector

if TYPE_CHECKING:
    from workers.loop import Loop

log = logging.getLogger("whichopt.worker")

STOP_S = 30.0
# A worker that ends sooner than this after its start was not killed by its work.
QUICK_DEATH_S = 20.0
MOST_QUICK_DEATHS = 3
LONGEST_RESTART_S = 30.0


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """How many workers one machine starts: a study's packs come in twos, and each worker uses its share of the cores."""
    return min(2, cores())


def worker_name(pid: int | None = None) -> str:
    """A name for the process of that number (None: this one) that no other worker has at this time."""
    return f"{socket.gethostname()}-{pid or os.getpid()}"


def how_it_ended(status: int) -> str:
    """``was ended by SIGSEGV``, ``ended with exit status 3``."""
    if status >= 0:
        return f"ended with exit status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


class LocalProcess:
    """A local worker as a child process. It starts importing at once, but waits for ``go`` before it opens the database.

    ``threads``: what torch may use, unless the environment says otherwise. ``trains``: whether it runs units, or only plans.

    The child stops when our end of its standard input closes, so it never outlives us, however we die.
    """

    def __init__(self, settings: Settings, threads: int = 1, *, trains: bool = True) -> None:
        self._begun, self.trains = False, trains
        # Its end was noticed, and whoever gives its work to others knows.
        self.told = False
        # -P: a folder named like one of our packages in the current directory must not be imported instead.
        command = [sys.executable, "-P", "-m", "workers.local", "--follow-stdin", *([] if trains else ["--plan-only"])]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            # Standard output carries the answer alone; what a person's code prints is seen beside the progress.
            stdout=2,
            env={"OMP_NUM_THREADS": str(threads), **os.environ, **as_environment(settings)},
            # Ctrl-C goes to the parent alone, which first stores that the study is paused.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int:
        """The exit status of one that is not alive; a signal's number below zero."""
        return self._process.wait()

    def go(self, study_id: str | None = None) -> None:
        """Let the worker begin; with ``study_id`` it works on that study alone."""
        pipe = self._process.stdin
        self._begun = True
        with suppress(BrokenPipeError):
            if pipe is not None:
                pipe.write(f"{study_id or '*'}\n".encode())
                pipe.flush()

    def terminate(self) -> None:
        """Ask the worker to end, without waiting. One that never began holds nothing, so it is not asked."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM if self._begun else signal.SIGKILL)

    def stop(self) -> None:
        """Let the worker save and release what it holds; kill it after half a minute."""
        self.terminate()
        try:
            self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


class LocalPool:
    """Local worker processes that are started again when they die, for example killed for using too much memory.

    Until ``go`` one core is left to whoever sets up what they will work on: the last worker starts then. ``planner``: one more
    process that only plans, so that people's own loops never wait for the end of a unit that is trained here. ``on_death``:
    called with the name of one that died and how, in words; says whether it held work, which then counts the attempts itself.
    """

    on_death: Callable[[str, str], bool] = staticmethod(lambda _name, _how: False)

    def __init__(self, settings: Settings, size: int, *, planner: bool = False) -> None:
        self._settings, self._size = settings, size
        self._threads = max(1, cores() // size) if size else 1
        self._orders: list[str | None] = []
        self._quick_deaths = 0
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._started = time.monotonic()
        self.processes = [LocalProcess(settings, self._threads) for _ in range(min(size, max(1, cores() - 1)))]
        self._planners = [LocalProcess(settings, trains=False)] if planner else []
        self._watcher = threading.Thread(target=self._watch, name="local-pool", daemon=True)
        self._watcher.start()

    @property
    def _everyone(self) -> list[LocalProcess]:
        return [*self._planners, *self.processes]

    def go(self, study_id: str | None = None) -> None:
        """Let the workers begin, on one study or on any."""
        with self._lock:
            self._orders = [study_id]
            while len(self.processes) < self._size:
                self.processes.append(LocalProcess(self._settings, self._threads))
            for process in self._everyone:
                process.go(study_id)

    def working(self) -> bool:
        """False once workers keep dying right after their start."""
        return self._quick_deaths < MOST_QUICK_DEATHS

    def terminate(self) -> None:
        """Ask all workers to end, without waiting."""
        self._closing.set()
        with self._lock:
            for process in self._everyone:
                process.terminate()

    def close(self) -> None:
        """Stop all workers; what they train is saved and released."""
        self.terminate()
        with self._lock:
            for process in self._everyone:
                process.stop()

    def _watch(self) -> None:
        while not self._closing.wait(0.2):
            if all(process.alive() for process in self._everyone):
                continue
            at_work = self._tell_of_the_dead()
            quick = time.monotonic() - self._started < QUICK_DEATH_S
            self._quick_deaths = self._quick_deaths + 1 if quick and not at_work else 1
            if self._closing.wait(min(LONGEST_RESTART_S, 2.0**self._quick_deaths)):
                return
            with self._lock:
                if not self._closing.is_set():
                    self._replace()

    def _tell_of_the_dead(self) -> bool:
        """Whether one of them died of what it worked on."""
        at_work = False
        for process in self._everyone:
            if process.alive() or process.told:
                continue
            process.told = True
            if not process.trains:
                continue
            try:
                at_work |= self.on_death(worker_name(process.pid), how_it_ended(process.status))
            except Exception as error:
                # Its lease will run out.
                log.warning("that worker %s died was not stored: %s", process.pid, error)
        return at_work

    def _replace(self) -> None:
        self._started = time.monotonic()
        for group in (self._planners, self.processes):
            for index, process in enumerate(group):
                # One that died since the others were told of is told of next.
                if not process.told:
                    continue
                log.error("local worker %s ended; starting another", process.pid)
                process.stop()
                group[index] = LocalProcess(self._settings, self._threads, trains=process.trains)
                for order in self._orders:
                    group[index].go(order)


def as_environment(settings: Settings) -> dict[str, str]:
    """The environment variables that make a child read these very settings."""
    values: dict[str, str] = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, list | tuple):
            separator = os.pathsep if name == "data_roots" else ","
            value = separator.join(str(part) for part in value)
        if value is not None:
            values[f"WHICHOPT_{name.upper()}"] = str(value)
    return values


def work(settings: Settings, *, follow: IO[bytes] | None = None, trains: bool = True) -> None:
    """Work until SIGTERM or SIGINT, or until ``follow`` ends. What is being trained is then saved and released.

    A signal that comes while nothing is being trained ends the process at once.

    ``follow``: lines with a study's id, or ``*`` for any study; work begins with the first line.
    """
    stopping, begun = threading.Event(), threading.Event()
    study: list[str | None] = [None]
    loops: list[Loop] = []

    def end(*_: object) -> None:
        stopping.set()
        # Without a lease there is nothing to give back, and a transaction that is cut off leaves nothing behind.
        if not any(loop.holds for loop in loops):
            leave(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if follow is not None:
        reader = threading.Thread(target=_obey, args=(follow, study, begun, stopping), daemon=True, name="orders")
        reader.start()
    else:
        begun.set()
    _import(trains)
    begun.wait()
    if not stopping.is_set():
        _loop(settings, study, stopping.is_set, trains, loops)


def _import(trains: bool) -> None:
    """Seconds of importing, spent before there is work."""
    with without_collector():
        telemetry.start()
        if trains:
            import_module("workers.training")
        for name in ("workers.loop", "optim_core.search", "optim_core.recommend"):
            import_module(name)


def _loop(
    settings: Settings, study: list[str | None], stop: Callable[[], bool], trains: bool, loops: list[Loop]
) -> None:
    from service.db import Database
    from service.dispatch.null import NullDispatcher
    from workers.loop import Loop

    database = Database(settings.url)
    loop = Loop(
        database, settings, NullDispatcher(), worker_name(), trains=trains, stop=stop, longest_wait_s=settings.poll_s,
        # What hangs in a process of its own ends with it; the pool starts another.
        abandon=lambda _: leave(1),
    )  # fmt: skip
    loops.append(loop)

    def stop_and_follow() -> bool:
        loop.study_id = study[0]
        return stop()

    loop.stop = stop_and_follow
    try:
        loop.run()
    finally:
        database.dispose()


def _obey(pipe: IO[bytes], study: list[str | None], begun: threading.Event, stopping: threading.Event) -> None:
    for line in iter(pipe.readline, b""):
        order = line.decode().strip()
        study[0] = None if order == "*" else order
        begun.set()
    stopping.set()
    begun.set()


def leave(status: int) -> NoReturn:
    """End this process now: taking torch apart in memory would take a second, and nothing is left to be done."""
    telemetry.stop()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main() -> NoReturn:
    """Entry point of the child process."""
    parser = argparse.ArgumentParser(prog="workers.local")
    parser.add_argument("--follow-stdin", action="store_true")
    parser.add_argument("--plan-only", action="store_true")
    arguments = parser.parse_args()
    settings = Settings()
    logs.configure(settings, worker=worker_name())
    # A crash in a person's code would write gigabytes, of their data, before anybody hears that the process ended.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Unbuffered and apart from sys.stdin: a thread that waits in sys.stdin cannot be left behind at exit.
    follow = os.fdopen(os.dup(0), "rb", buffering=0) if arguments.follow_stdin else None
    work(settings, follow=follow, trains=not arguments.plan_only)
    leave(0)


if __name__ == "__main__":
    main()
