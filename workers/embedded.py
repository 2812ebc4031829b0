"""The whole stack in one process tree: API on a free loopback port, local workers, SQLite. For CLI and notebooks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from service.settings import Settings
from workers.collector import without_collector
from workers.listener import listen_on
from workers.local import LocalPool

START_S = 30.0


@dataclass
class Embedded:
    """A running stack. ``url``: base address of the API and the dashboard; ``key``: what lets its own process in, and nobody
    else on this machine.
    """

    url: str
    key: str = field(repr=False)
    settings: Settings
    workers: LocalPool

    def focus(self, study_id: str) -> None:
        """Work on this study alone: others that wait in the same folder are left for their own command."""
        self.workers.go(study_id)

    def working(self) -> bool:
        """False when no worker process can be kept alive."""
        return self.workers.working()


@contextmanager
def embedded(settings: Settings | None = None, *, workers: int = 1, wait_for_focus: bool = False) -> Iterator[Embedded]:
    """Run API and ``workers`` local worker processes until the block ends.

    ``wait_for_focus``: workers only begin once ``focus`` names their study, which may then have Python of the person's own.
    Raises OSError when no port can be bound,
    DatabaseUnavailable or SchemaMismatch when the database cannot be used.
    """
    # Workers with a focus run what this process asked for, whoever else finds the port.
    settings = (settings or Settings()).model_copy(update={"own_process": wait_for_focus})
    with ExitStack() as stack:
        # First of all: importing torch takes seconds, and goes on beside everything below.
        pool = LocalPool(quiet(settings), workers)
        stack.callback(pool.close)
        with without_collector():
            from service.app import create_app
            from service.db import Database
            from service.dispatch.null import NullDispatcher
            from service.operations import access, queue

            database = Database(settings.url)
            stack.callback(database.dispose)
            database.migrate()
            pool.on_death = partial(queue.worker_died, database)
            key = access.new_secret()
            app = create_app(settings, database, NullDispatcher(), key)
            if workers:
                # Checks the data set of a study that is sent.
                import optim_core.data  # noqa: F401
        url = stack.enter_context(serve_in_thread(app, app.state.context.hub.close))
        # They end while the API does.
        stack.callback(pool.terminate)
        if not wait_for_focus:
            pool.go()
        yield Embedded(url, key, settings, pool)


def quiet(settings: Settings) -> Settings:
    """The settings with a log that only says what went wrong: a person watches a progress bar instead."""
    return settings if settings.log_level == "DEBUG" else settings.model_copy(update={"log_level": "ERROR"})


@contextmanager
def serve_in_thread(app: object, ending: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Serve an ASGI application on a free loopback port; yields its address. ``ending``: as for ``HttpServer``. Raises OSError
    when it does not start.
    """

    from service.app import HttpServer, server_config

    listener = listen_on("127.0.0.1", 0)
    server = HttpServer(server_config(app, logging.ERROR, 1), ending)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise OSError("the embedded API did not start")
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()
