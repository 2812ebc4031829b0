"""What one Celery child process holds: its database, and its loop in a thread, which works on when the broker is away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from service import logs, telemetry
from service.db import Database
from service.dispatch.celery import CeleryDispatcher
from service.settings import Settings
from workers.local import worker_name
from workers.loop import Loop

STOP_S = 25.0
_stopping = threading.Event()
_threads: list[threading.Thread] = []


_loops: list[Loop] = []


def loop() -> Loop:
    """This process's loop. Raises RuntimeError before ``start``."""
    if not _loops:
        raise RuntimeError("this process has not been started")
    return _loops[0]


def start(settings: Settings, *, trains: bool, shutting_down: Callable[[], bool]) -> None:
    """Begin to look for work: when rung, and now and then, so that with no broker at all studies still end.

    Called after the fork: database connections must not be shared between processes.
    """
    logs.configure(settings, worker=worker_name())
    telemetry.start()
    made = Loop(
        Database(settings.url),
        settings,
        CeleryDispatcher(settings.broker_url or ""),
        worker_name(),
        trains=trains,
        stop=lambda: _stopping.is_set() or shutting_down(),
        abandon=_give_up,
        longest_wait_s=settings.sweep_s,
    )
    _loops.append(made)
    thread = threading.Thread(target=_run, args=(made,), name="loop", daemon=True)
    _threads.append(thread)
    thread.start()


def stop() -> None:
    """Release what the thread is training and wait for it."""
    _stopping.set()
    for thread in _threads:
        thread.join(timeout=STOP_S)
    telemetry.stop()


def _give_up(ident: int) -> None:
    """Whatever does not come back, a person's code or ours, ends with this process; Celery starts another."""
    os._exit(1)


def _run(made: Loop) -> None:
    if made.trains:
        import workers.training  # noqa: F401 - never in the parent: CUDA does not survive a fork

    made.run()
