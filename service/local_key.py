"""The key of a server for the account that runs it, and how that account's clients find it, as they would find its files.

``key`` in the data folder holds it, readable by its owner alone; a process that listens at ADDRESS:PORT with it keeps the file
``serving/ADDRESS:PORT`` locked, which ends with that process however it ends. A client sends the key nowhere else: at any other
address of this machine another account may be listening for it.
"""

from __future__ import annotations

import fcntl
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


def authority(host: str, port: int) -> str:
    """Address and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def announced(folder: Path, host: str, port: int) -> Iterator[None]:
    """Say, until the block ends, that this process listens on ``port`` of the address ``host`` with the key in ``folder``."""
    place = folder / "serving" / authority(host, port)
    fresh = private.folder(place.parent) / f".{secrets.token_hex(8)}"
    with open(fresh, "x", opener=private.opener) as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.write(str(os.getpid()))
        out.flush()
        # One that a killed server left is nobody's any more.
        fresh.replace(place)
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                if place.stat().st_ino == os.fstat(out.fileno()).st_ino:
                    place.unlink()


def key_for(url: str, folder: Path) -> tuple[str, str] | None:
    """The key in ``folder``, and the address to send it to, if a server that takes it listens at ``url``; else None.

    ``localhost`` is several addresses: where it was meant the answer names the one at which that server listens.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or 80
        hosts = ("127.0.0.1", "::1") if name == "localhost" else (str(ipaddress.ip_address(name)),)
        host = next((one for one in hosts if is_loopback(one) and _serves(folder, authority(one, port))), None)
        if host is None or parts.scheme != "http":
            return None
        return _read(folder / "key"), parts._replace(netloc=authority(host, port)).geturl()
    except (OSError, ValueError):
        return None


def _serves(folder: Path, place: str) -> bool:
    """Whether a living process of ours listens there: it alone keeps others from locking its file."""
    try:
        with open(folder / "serving" / place) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
