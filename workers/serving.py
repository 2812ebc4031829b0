"""``whichopt serve`` and ``whichopt worker``: long-running processes on one machine or in a cluster."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack

from service.cli.errors import BAD_INPUT, NOT_PERMITTED, CommandError, say
from service.settings import Settings
from workers.local import LocalPool, as_environment, configure_logging, work

INSECURE = "WHICHOPT_ALLOW_INSECURE_BIND"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str) -> None:
    """Refuse to be reachable by others while there are no access keys."""
    if not is_loopback(host) and os.environ.get(INSECURE) != "1":
        raise CommandError(
            f"refusing to listen on {host}: there is no access control yet, so anybody who reaches the port could run "
            f"work here. Listen on 127.0.0.1, or set {INSECURE}=1 where a network of your own shields the port",
            NOT_PERMITTED,
        )


def serve(settings: Settings, workers: int) -> None:
    """API and dashboard until SIGTERM or SIGINT, with ``workers`` local workers."""
    check_host(settings.host)
    settings = settings.model_copy(update={"own_process": False})
    configure_logging(settings)
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.host, settings.port))
        pool = LocalPool(settings, workers)
        stack.callback(pool.close)
        import uvicorn

        from service.app import create_app
        from service.db import Database
        from service.dispatch.celery import CeleryDispatcher
        from service.dispatch.null import NullDispatcher

        database = Database(settings.url)
        stack.callback(database.dispose)
        database.migrate()
        dispatcher = CeleryDispatcher(settings.broker_url) if settings.broker_url else NullDispatcher()
        config = uvicorn.Config(
            create_app(settings, database, dispatcher),
            log_config=None, log_level=settings.log_level.lower(), access_log=False, timeout_graceful_shutdown=5,
        )  # fmt: skip
        pool.go()
        threading.Thread(target=_warm_up, daemon=True, name="warm-up").start()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        say(f"serving on http://{host}:{listener.getsockname()[1]} with {workers} local worker(s)")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            say("stopped")


def _warm_up() -> None:
    """Import what checks a data set before the first study arrives: seconds that its sender would wait."""
    from optim_core.data import inspect
    from optim_core.spec.problem import BuiltinDataset, CatalogueModel, StudySpec

    dataset = BuiltinDataset(name="synthetic_classification")
    inspect(dataset, StudySpec(model=CatalogueModel(name="linear"), dataset=dataset))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror or error}", BAD_INPUT) from None
    return listener


def run_worker(settings: Settings, queue: str, concurrency: int) -> None:
    """A worker until SIGTERM or SIGINT: under Celery when a broker is configured, else polling.

    ``queue``: ``device`` trains, ``control`` plans and sweeps, ``all`` does both.
    """
    settings = settings.model_copy(update={"own_process": False})
    if not settings.broker_url:
        from service.db import Database

        configure_logging(settings)
        Database(settings.url).migrate()
        work(settings, trains=queue != "control")
        return
    queues = "control,device" if queue == "all" else queue
    beat = [] if queue == "device" else ["-B"]
    # Celery reads settings where it is imported, so it gets a process image of its own.
    command = [
        sys.executable, "-P", "-m", "celery", "-A", "workers.app", "worker", "-Q", queues, "-c", str(concurrency),
        "-P", "prefork", "--without-gossip", "--without-mingle", "-l", settings.log_level, *beat,
    ]  # fmt: skip
    # SIGTERM's disposition is inherited; Celery installs its own.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execve(sys.executable, command, {**os.environ, **as_environment(settings)})  # noqa: S606 - our own program
