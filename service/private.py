"""Files and folders of the service, which nobody but its own account may read: whatever the umask, whoever made the folder."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_UMASK = 0o077


def folder(path: Path) -> Path:
    """Make ``path``, and what is missing above it, for its owner alone; one that is there stays as it is."""
    for part in (*reversed(path.parents), path):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
    return path


def opener(path: str, flags: int) -> int:
    """For ``open``: a file that is made is its owner's alone."""
    return os.open(path, flags, 0o600)


def tighten(path: Path) -> None:
    """Take a file of ours from others; one that is not there, or is not ours, stays as it is."""
    try:
        found = path.stat()
        if found.st_uid == os.getuid() and found.st_mode & PRIVATE_UMASK:
            path.chmod(stat.S_IMODE(found.st_mode) & ~PRIVATE_UMASK)
    except FileNotFoundError:
        pass


def sqlite(path: Path) -> None:
    """Make a database's file and tighten what is there; SQLite gives its other files the mode of this one. What cannot be
    opened stays: SQLite says so when it tries.
    """
    folder(path.parent)
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            tighten(one)
