"""``whichopt serve`` and ``whichopt worker``: long-running processes on one machine or in a cluster."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from service import local_key, logs, telemetry
from service.cli.errors import BAD_INPUT, NOT_PERMITTED, CommandError, say
from service.private import PRIVATE_UMASK
from service.settings import Settings
from workers.listener import listen_on
from workers.local import LocalPool, as_environment, work, worker_name

if TYPE_CHECKING:
    from service.db import Database

log = logging.getLogger("whichopt.api")

# A server that starts waits so long for its PostgreSQL.
PATIENCE_S = 30.0
# Of the interpreter, between threads.
SWITCH_S = 0.0005


def migrate_patiently(database: Database) -> None:
    """Bring the schema to this code's version. A PostgreSQL that is away, as while it restarts, is waited for.

    Raises DatabaseUnavailable when it stays away.
    """
    from service.db import DatabaseUnavailable

    until = time.monotonic() + (PATIENCE_S if database.dialect == "postgresql" else 0.0)
    while True:
        try:
            return database.migrate()
        except DatabaseUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def check_keys(settings: Settings) -> None:
    """Refuse to be reachable by others while no key exists that could tell who they are."""
    from service.db import Database
    from service.operations.access import any_key

    database = Database(settings.url)
    try:
        migrate_patiently(database)
        if not any_key(database):
            raise CommandError(
                f"refusing to listen on {settings.host}: no key exists that could let anybody in. Make one with: "
                "whichopt keys create",
                NOT_PERMITTED,
            )
    finally:
        database.dispose()


def serve(settings: Settings, workers: int) -> None:
    """API and dashboard until SIGTERM or SIGINT, with ``workers`` local workers.

    On a loopback address the account that runs it has a key of its own; elsewhere all keys are in the database.
    """
    from service.operations.access import any_key, new_secret

    logs.configure(settings)
    os.umask(PRIVATE_UMASK)  # of the workers, too
    telemetry.start()
    own_key = local_key.ensure(settings.data_dir, new_secret) if local_key.is_loopback(settings.host) else None
    if own_key is None:
        check_keys(settings)
    settings = settings.model_copy(update={"own_process": False})
    with ExitStack() as stack:
        stack.callback(telemetry.stop)
        listener = stack.enter_context(_listen(settings.host, settings.port))
        # Beside Celery the control worker plans.
        pool = LocalPool(settings, workers, planner=not settings.broker_url)
        stack.callback(pool.close)

        from service.app import HttpServer, create_app, server_config
        from service.db import Database
        from service.dispatch.celery import CeleryDispatcher
        from service.dispatch.null import NullDispatcher
        from service.operations import queue

        # A request's thread gives its turn away at every statement: to wait 5 ms for the next each time is half of an answer.
        sys.setswitchinterval(SWITCH_S)
        database = Database(settings.url)
        stack.callback(database.dispose)
        migrate_patiently(database)
        pool.on_death = partial(queue.worker_died, database)
        dispatcher = CeleryDispatcher(settings.broker_url) if settings.broker_url else NullDispatcher()
        app = create_app(settings, database, dispatcher, own_key)
        if settings.data_roots is None and any_key(database):
            log.warning("keys let others read files below %s, the working folder; see WHICHOPT_DATA_ROOTS", os.getcwd())
        for root in settings.data_roots or ():
            if not root.is_dir():
                log.warning("WHICHOPT_DATA_ROOTS: there is no folder %s; files of studies below it are not found", root)
        pool.go()
        threading.Thread(target=_warm_up, daemon=True, name="warm-up").start()
        # The address that was bound: a name may lead a browser, or a client with our key, to somebody else's as well.
        bound = listener.getsockname()[:2]
        url = f"http://{local_key.authority(*bound)}"
        announced = stack.enter_context(ExitStack())
        if own_key is not None:
            announced.enter_context(local_key.announced(settings.data_dir, *bound))
        log.info("serving on %s with %s local worker(s)", url, workers)
        if own_key is not None and sys.stderr.isatty():
            say(f"open once, to sign your browser in: {url}/signin?ticket={app.state.door.new_ticket()}")
        elif own_key is not None:  # what is kept in a file, or read by others, lets nobody in
            log.info("to sign a browser in: %s/signin and the key in %s", url, settings.data_dir / "key")

        def ending() -> None:
            announced.close()  # requests may still end, and another account listen at our address meanwhile
            app.state.context.hub.close()

        try:
            HttpServer(server_config(app, settings.log_level.lower(), 5), ending).run(sockets=[listener])
        except KeyboardInterrupt:
            log.info("stopped")


def _warm_up() -> None:
    """Import what checks a data set before the first study arrives: seconds that its sender would wait. What is there then
    stays: looking through it for garbage, all requests waited a sixth of a second each time.
    """
    from optim_core.data import inspect
    from optim_core.spec.problem import BuiltinDataset, CatalogueModel, StudySpec

    dataset = BuiltinDataset(name="synthetic_classification")
    inspect(dataset, StudySpec(model=CatalogueModel(name="linear"), dataset=dataset))
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen_on(host, port)
    except OSError as error:
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}", BAD_INPUT) from None


def run_worker(settings: Settings, queue: str, concurrency: int) -> None:
    """A worker until SIGTERM or SIGINT: under Celery when a broker is configured, else polling.

    ``queue``: ``device`` trains, ``control`` plans and sweeps, ``all`` does both.
    """
    settings = settings.model_copy(update={"own_process": False})
    os.umask(PRIVATE_UMASK)
    if not settings.broker_url:
        from service.db import Database

        logs.configure(settings, worker=worker_name())
        Database(settings.url).migrate()
        work(settings, trains=queue != "control")
        return
    queues = "control,device" if queue == "all" else queue
    beat = [] if queue == "device" else ["-B"]
    # Celery reads settings where it is imported, so it gets a process image of its own.
    command = [
        sys.executable, "-P", "-m", "celery", "-q", "-A", "workers.app", "worker", "-Q", queues, "-c", str(concurrency),
        "-P", "prefork", "--without-gossip", "--without-mingle", "-l", settings.log_level, *beat,
    ]  # fmt: skip
    # SIGTERM's disposition is inherited; Celery installs its own.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execve(sys.executable, command, {**os.environ, **as_environment(settings)})  # noqa: S606 - our own program
