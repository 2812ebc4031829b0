"""Where the commands find their server: one that runs somewhere, or the whole stack embedded in this process."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from service.cli.errors import BAD_INPUT, NOT_PERMITTED, STUDY_FAILED, UNREACHABLE, CommandError, field_errors, one_line

if TYPE_CHECKING:
    from service.client import Client


class Local(Protocol):
    """An embedded stack, as the composition root provides it."""

    url: str

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


def server_address(option: str | None) -> str | None:
    """The server to use, or None for the embedded stack. Raises CommandError for what is no http address."""
    address = option or os.environ.get("WHICHOPT_SERVER") or None
    if address is not None and not address.startswith(("http://", "https://")):
        raise CommandError(f"--server: {address!r} is no address; write http://HOST:PORT")
    return address.rstrip("/") if address else None


@contextmanager
def connect(open_local: OpenLocal, server: str | None, *, workers: bool = False) -> Iterator[Backend]:
    """A backend for one command; errors of the API become CommandErrors with their exit code."""
    from service.client import ApiError, Client, Unreachable

    address = server_address(server)
    try:
        if address is not None:
            with Client(address) as client:
                yield Backend(client, address, None)
        else:
            with open_local(workers) as local, Client(local.url) as client:
                yield Backend(client, local.url, local)
    except ApiError as error:
        raise CommandError(api_message(error), api_exit(error)) from error
    except Unreachable as error:
        raise CommandError(
            f"cannot reach {address or 'the embedded server'}: {one_line(str(error))}", UNREACHABLE
        ) from error


def api_message(error: Any) -> str:
    """One line for a problem document."""
    return field_errors(error.errors) if error.errors else one_line(error.detail or error.code)


def api_exit(error: Any) -> int:
    """The exit code for a problem document."""
    if error.status in (401, 403):
        return NOT_PERMITTED
    if error.status >= 500:
        return UNREACHABLE
    return STUDY_FAILED if error.code in ("study_failed", "study_cancelled") else BAD_INPUT
