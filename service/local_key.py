"""The key of a server for the account that runs it, and how that account's clients find it, as they would find its files.

``key`` in the data folder holds it, readable by its owner alone; ``serving/PORT`` names the process that listens there with
it. A client sends the key to no other port of this machine, where another account may be listening for it.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from service import private


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def ensure(folder: Path, new: Callable[[], str]) -> str:
    """The key in ``folder``; the first time, one that ``new`` makes. PermissionError where others could have read it."""
    private.folder(folder)
    path, fresh = folder / "key", folder / f".key-{secrets.token_hex(8)}"
    with suppress(FileExistsError):
        if not path.exists():
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(new() + "\n")
            # Of several servers that begin at once one makes the key, and nobody sees half of it.
            try:
                os.link(fresh, path)
            finally:
                fresh.unlink()
    return _read(path)


def _read(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.getuid():
            raise PermissionError(f"others than you may read {path}: delete it, and the next server makes a new key")
        return file.read().strip()


@contextmanager
def announced(folder: Path, port: int) -> Iterator[None]:
    """Say, until the block ends, that this process listens on ``port`` and takes the key in ``folder``."""
    place = folder / "serving" / str(port)
    private.folder(place.parent)
    with open(place, "w", opener=private.opener) as out:
        out.write(str(os.getpid()))
    try:
        yield
    finally:
        place.unlink(missing_ok=True)


def key_for(url: str, folder: Path) -> str | None:
    """The key in ``folder`` if a server that takes it listens at ``url``; else None."""
    parts = urlsplit(url)
    try:
        if not is_loopback(parts.hostname or ""):
            return None
        pid = int((folder / "serving" / str(parts.port or 80)).read_text())
        os.kill(pid, 0)  # only asks whether it runs, and is ours
        return _read(folder / "key")
    except (OSError, ValueError):
        return None
