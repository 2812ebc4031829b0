"""Logs of all processes: one line for one thing, JSON unless a person reads along at a terminal, and no secret in any of them.

Who logs uses ``logging.getLogger`` as ever; structlog gives each line its ids and its form.
"""

from __future__ import annotations

import contextvars
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import unquote

import structlog
from structlog.contextvars import bound_contextvars
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from service.settings import Settings
from service.text import visible_document

__all__ = ["Outage", "bound_contextvars", "configure", "redact", "thread"]

# In a program that did not set up a log, ours says nothing: a command's own line does.
logging.getLogger("whichopt").addHandler(logging.NullHandler())

HIDDEN = "***"
# Those that say at INFO what they do all day.
CHATTY = ("alembic", "celery.app.trace", "celery.beat", "celery.worker.strategy", "httpx2", "httpcore2",
           "multiprocessing")  # fmt: skip
_NAMES = r"pass(?:word|wd|phrase)?|pwd|pgpassword|secret|token|ticket|api[_-]?key|access[_-]?key|(?:set-)?cookie"
_USER_INFO = re.compile(r"""(\b[a-z][a-z0-9+.-]*://)[^\s"'<>]*@""", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_OWN_KEY = re.compile(r"\bwo_[0-9a-f]{6,}_[\w-]{20,}")
_NAMED = re.compile(rf"""(\b[\w-]*(?:{_NAMES})["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&"']+)""", re.IGNORECASE)
_SECRET_FIELD = re.compile(rf"^(?:[\w-]*(?:{_NAMES})|authorization)$", re.IGNORECASE)


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """``text`` without user info of addresses, keys, cookies and passwords, nor any of ``secrets``."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _OWN_KEY.sub(HIDDEN, text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def configure(settings: Settings, stream: IO[str] | None = None, **always: str) -> None:
    """Send this process's log to ``stream`` (standard error). ``always``: fields of every line, such as the worker's name."""
    out = stream or sys.stderr
    secrets = _secrets_of(settings)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        lambda _logger, _method, event: {**always, **event},
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info]
    last += [lambda _logger, _method, event: _clean(event, secrets), _plain]
    if out.isatty():
        last += [_on_one_line, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        last += [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer(ensure_ascii=False)]
    handler = logging.StreamHandler(out)
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    handler.addFilter(_BrokerLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    # billiard's, which hands nothing on to the root.
    logging.getLogger("multiprocessing").handlers[:] = [handler]
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def thread(target: Callable[[], None], name: str) -> threading.Thread:
    """A background thread whose lines carry the ids of whoever made it."""
    context = contextvars.copy_context()
    return threading.Thread(target=lambda: context.run(target), name=name, daemon=True)


class Outage:
    """Says once that something is away, and once that it is back. Many threads may say so at once."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log, self._what = log, what
        self._lock = threading.Lock()
        self._since: float | None = None

    def away(self, why: object) -> bool:
        """It is away: ``why`` is said the first time; whether this is that."""
        with self._lock:
            begins, self._since = self._since is None, self._since or time.monotonic()
        if begins:
            self._log.warning("%s: %s", self._what, " ".join(str(why).split()), extra={"outage": "begins"})
        return begins

    def back(self) -> None:
        """It is there."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            lasted = time.monotonic() - since
            self._log.warning("over after %.0f s: %s", lasted, self._what, extra={"outage": "ends"})


class _BrokerLines(logging.Filter):
    """Celery says with every try that the broker is away, with a traceback: once is enough, until it is there again."""

    def __init__(self) -> None:
        super().__init__()
        self._away = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("celery.worker.consumer", "celery.beat", "kombu")):
            return True
        text = record.getMessage()
        if record.name == "celery.beat" and text.startswith("Message Error"):
            return False  # the broker is away, with a stack of calls: the worker beside it says so
        if "Connected to" in text:
            self._away = False
            return True
        if not re.search(
            r"Cannot connect|[Cc]onnection (?:to broker )?(?:lost|error)|Trying again|Connection refused", text
        ):
            return True
        first, self._away = not self._away, True
        record.exc_info = record.exc_text = None
        record.msg, record.args = text.splitlines()[0], None
        return first


def _secrets_of(settings: Settings) -> tuple[str, ...]:
    """Passwords that this process was given, as they are and as they stand in an address."""
    found = {os.environ.get("PGPASSWORD", "")}
    for url in (settings.database_url, settings.broker_url):
        password = (url or "").partition("://")[2].rpartition("@")[0].partition(":")[2]
        found |= {password, unquote(password)}
    # What is as short as a word would be hidden everywhere.
    return tuple(sorted((secret for secret in found if len(secret) >= 6), key=len, reverse=True))


def _clean(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {
            key: HIDDEN if isinstance(key, str) and _SECRET_FIELD.match(key) else _clean(one, secrets)
            for key, one in value.items()
            if key != "color_message"  # uvicorn's second form of the same
        }
    if isinstance(value, list | tuple | set):
        return [_clean(one, secrets) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value), secrets)


def _plain(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What others made us say cannot steer a terminal, nor turn the text of whoever reads the file."""
    return {key: visible_document(value) for key, value in event.items()}


def _on_one_line(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Nor begin a line of its own."""
    return {
        key: value.replace("\n", "\\n") if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }
