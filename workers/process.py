"""What one Celery child process holds: its database, its loop, and a thread that works on when the broker is away."""

from __future__ import annotations

import threading
from functools import cache

from service.dispatch.celery import CeleryDispatcher

from service.db import Database
from workers.app import serves, settings, shutting_down
from workers.local import worker_name
from workers.loop import Loop

STOP_S = 25.0
_stopping = threading.Event()
_threads: list[threading.Thread] = []


@cache
def loop() -> Loop:
    """This process's loop. Made after the fork: database connections must not be shared between processes."""
    return Loop(
        Database(settings.url),
        settings,
        CeleryDispatcher(settings.broker_url or ""),
        worker_name(),
        trains="device" in serves,
        stop=lambda: _stopping.is_set() or shutting_down.value,
        longest_wait_s=settings.sweep_s,
    )


def start(*, trains: bool) -> None:
    """Begin to look for work now and then, without being rung: with no broker at all, studies still end."""
    thread = threading.Thread(target=_run, args=(trains,), name="loop", daemon=True)
    _threads.append(thread)
    thread.start()


def stop() -> None:
    """Release what the thread is training and wait for it."""
    _stopping.set()
    for thread in _threads:
        thread.join(timeout=STOP_S)


def _run(trains: bool) -> None:
    if trains:
        import workers.training  # noqa: F401 - never in the parent: CUDA does not survive a fork

    loop().run()
