"""``whichopt doctor``: is everything here that Whichopt needs, and does it answer?"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version

from service import private
from service.settings import Settings

Check = Callable[[Settings], str]


def python(settings: Settings) -> str:
    """Versions of the interpreter and of Whichopt."""
    del settings
    return f"Python {platform.python_version()}, whichopt {version('whichopt')}"


def training(settings: Settings) -> str:
    """Whether torch imports, and what it computes on."""
    del settings
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"torch {torch.__version__} on {device}"


def folder(settings: Settings) -> str:
    """Whether the data folder can be written."""
    private.folder(settings.data_dir)
    with tempfile.NamedTemporaryFile(dir=settings.data_dir):
        return f"{settings.data_dir} can be written"


def database(settings: Settings) -> str:
    """Whether the database answers and has the schema of this version."""
    from service.db import Database
    from service.db.migrate import current, head

    if current(settings.url) is None:
        return "no schema yet; the first study or `whichopt db upgrade` makes it"
    handle = Database(settings.url)
    try:
        handle.check_schema()
        started = time.perf_counter()
        handle.now()
        return f"{handle.dialect}, schema {head()}, answers in {(time.perf_counter() - started) * 1e3:.1f} ms"
    finally:
        handle.dispose()


def broker(settings: Settings) -> str:
    """Whether Redis answers, when one is configured."""
    if not settings.broker_url:
        return "none configured; workers poll the database"
    import redis

    redis.Redis.from_url(settings.broker_url, socket_timeout=2, socket_connect_timeout=2).ping()
    return "answers"


def server(settings: Settings) -> str:
    """Whether the server of WHICHOPT_SERVER answers, when one is named."""
    del settings
    address = os.environ.get("WHICHOPT_SERVER")
    if not address:
        return "none named; commands run the whole stack themselves"
    from service.client import Client

    with Client(address) as client:
        return f"{address}: {client.health()}"


CHECKS: dict[str, Check] = {
    "python": python, "training": training, "data folder": folder, "database": database, "broker": broker,
    "server": server,
}  # fmt: skip


def examine(settings: Settings) -> list[tuple[str, bool, str]]:
    """(what, whether it is fine, one line) for every check."""
    found = []
    for name, check in CHECKS.items():
        try:
            found.append((name, True, check(settings)))
        except Exception as error:  # a doctor reports what is broken, whatever it is
            from service.db import said

            found.append((name, False, f"{type(error).__name__}: {said(error)}"))
    return found
