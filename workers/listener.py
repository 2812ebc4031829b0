"""The socket that an API listens on."""

from __future__ import annotations

import resource
import socket
from contextlib import suppress


def allow_files() -> None:
    """Let this process open as many files as its hard limit allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS takes less than the hard limit that it tells
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen_on(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on an address of this machine; port 0 takes a free one. Raises OSError.

    Who comes before anybody answers waits, and is not refused. The process may from then on open as many files as its hard
    limit allows: each connection is one.
    """
    allow_files()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY on such sockets only, and without it every answer on a connection that
    # is kept waits 40 ms for the other side's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
