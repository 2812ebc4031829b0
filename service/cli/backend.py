"""Where the commands find their server: one that runs somewhere, or the whole stack embedded in this process."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from service.address import http_address
from service.cli.errors import (
    BAD_INPUT,
    NOT_PERMITTED,
    STUDY_FAILED,
    UNREACHABLE,
    CommandError,
    field_errors,
    one_line,
    say,
)

if TYPE_CHECKING:
    from service.client import Client

WHOLE_ID = re.compile("[0-9a-f]{32}")
MOST_SHOWN = 5


class Local(Protocol):
    """An embedded stack, as the composition root provides it."""

    url: str
    key: str

    def focus(self, study_id: str) -> None: ...

    def working(self) -> bool: ...


# (workers: whether trials are to be trained) -> the running stack.
OpenLocal = Callable[[bool], AbstractContextManager[Local]]


@dataclass
class Backend:
    """A connection. ``local`` is None when the server is somebody else's."""

    client: Client
    url: str
    local: Local | None

    def command(self, words: str) -> str:
        """A command line that reaches the same studies, e.g. ``whichopt studies resume ID``."""
        if self.local is None:
            return f"whichopt {words} --server {shlex.quote(self.url)}"
        names = ("WHICHOPT_DATA_DIR", "WHICHOPT_DATABASE_URL")
        before = "".join(f"{name}={shlex.quote(os.environ[name])} " for name in names if name in os.environ)
        return f"{before}whichopt {words}"

    def study_id(self, given: str) -> str:
        """The id of a study that is given by it, by the beginning of it, or by its name. CommandError for none, and several."""
        if WHOLE_ID.fullmatch(given):
            return given
        if not given.strip():
            # A variable that is not set: it must not mean the only study that there is.
            raise CommandError("name a study: by its id, the beginning of it, or its name")
        rows = self.client.list_studies(find=given, limit=MOST_SHOWN)["items"]
        if not rows:
            raise CommandError(f"there is no study {given!r}")
        if len(rows) > 1:
            ids = ", ".join(row["id"] for row in rows)
            raise CommandError(
                f"{given!r} may be any of several studies: {ids}{', …' if len(rows) == MOST_SHOWN else ''}"
            )
        return rows[0]["id"]


def server_address(option: str | None, key: str | None = None) -> str | None:
    """The server to use, or None for the embedded stack. Raises CommandError for what is no http address, and for a key that no
    server is named for.
    """
    address = option or os.environ.get("WHICHOPT_SERVER") or None
    if address is None and key:
        raise CommandError("--key: no server is named that it is for (--server or WHICHOPT_SERVER)")
    try:
        return None if address is None else http_address(address)
    except ValueError as error:
        raise CommandError(f"{'--server' if option else 'WHICHOPT_SERVER'}: {error}") from None


@contextmanager
def connect(
    open_local: OpenLocal, server: str | None, key: str | None = None, *, workers: bool = False
) -> Iterator[Backend]:
    """A backend for one command; errors of the API become CommandErrors with their exit code. ``key``: for that server."""
    address = server_address(server, key)
    if address is not None:
        with at_server(address, key=key) as client:
            yield Backend(client, address, None)
    else:
        if os.environ.get("WHICHOPT_KEY"):
            say(
                "WHICHOPT_KEY is for a server, and none is named (--server or WHICHOPT_SERVER): this is your own database"
            )
        with open_local(workers) as local, at_server(local.url, "the embedded server", local.key) as client:
            yield Backend(client, local.url, local)


@contextmanager
def at_server(address: str, called: str = "", key: str | None = None) -> Iterator[Client]:
    """A client; its errors become CommandErrors. ``called``: the server's name for people, else its address. ``key``: as of
    ``Client``.
    """
    from service.client import ApiError, BadKey, Client, Unreachable

    try:
        with Client(address, key) as client:
            yield client
    except BadKey as error:
        raise CommandError(f"{'--key' if key else 'WHICHOPT_KEY'}: {error}") from None
    except ApiError as error:
        raise CommandError(api_message(error), api_exit(error), error.errors) from error
    except Unreachable as error:
        raise CommandError(f"cannot reach {called or address}: {one_line(str(error))}", UNREACHABLE) from error


def api_message(error: Any) -> str:
    """One line for a problem document."""
    if error.status == 401:
        return one_line(f"{error.detail} (WHICHOPT_KEY or --key)")
    return field_errors(error.errors) if error.errors else one_line(error.detail or error.code)


def api_exit(error: Any) -> int:
    """The exit code for a problem document."""
    if error.status in (401, 403):
        return NOT_PERMITTED
    if error.status >= 500:
        return UNREACHABLE
    return STUDY_FAILED if error.code in ("study_failed", "study_cancelled") else BAD_INPUT
