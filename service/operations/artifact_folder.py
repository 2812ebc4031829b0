"""Where uploaded files lie: one folder for each hash, in it the bytes under a name that says their format alone."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from service import private

SUFFIXES = {
    "csv": ".csv", "json": ".json", "parquet": ".parquet", "arrow": ".arrow", "xlsx": ".xlsx", "arff": ".arff",
    "npz": ".npz", "text": ".txt", "weights": ".pt",
}  # fmt: skip
_FORMATS = {suffix: fmt for fmt, suffix in SUFFIXES.items()}
_STEM = "data"
_COMING = ".coming"
# An upload that takes longer is nobody's any more, and a file without a row may belong to one that is just being stored.
_ABANDONED_S = 24 * 3600.0
_SETTLED_S = 3600.0


# Whoever may write into the folder could put a link there to what only this process may read.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
# What was hashed lately, by device, number, size and times of the file: a file is not hashed for each study that reads it.
_HASHED: dict[tuple[int, ...], str] = {}
_MOST_HASHED = 4096


class Damaged(OSError):
    """What lies there is not what was uploaded."""


class ArtifactFolder:
    """Workers on other machines need this folder, too: a shared volume."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def coming(self) -> Path:
        """A new name for what is being received."""
        return private.folder(self.root / _COMING) / secrets.token_hex(16)

    def path(self, sha256: str, fmt: str) -> Path:
        """Where the file of a hash and format lies."""
        return self.root / sha256 / f"{_STEM}{SUFFIXES[fmt]}"

    def open(self, sha256: str, fmt: str) -> BufferedReader:
        """The file, open for reading, as it was uploaded. FileNotFoundError; Damaged where its bytes have another hash, or
        it is a link or the like.
        """
        place = self.path(sha256, fmt)
        try:
            folder = os.open(place.parent, os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                file = os.fdopen(os.open(place.name, _READ, dir_fd=folder), "rb")
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Damaged(f"{place} is no file") from None
            raise
        try:
            if _hash_of(file) != sha256:
                raise Damaged(f"{place} is not what was uploaded")
        except BaseException:
            file.close()
            raise
        return file

    def keep(self, received: Path, sha256: str, fmt: str) -> None:
        """Move what was received (and written out) into its place, for good even if the machine stops now."""
        place = self.path(sha256, fmt)
        private.folder(place.parent)
        os.replace(received, place)
        for folder in (place.parent, self.root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def settled(self) -> Iterator[tuple[str, str]]:
        """(sha256, format) of every file that has lain there for an hour."""
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if len(folder.name) == 64:
                for file in folder.iterdir():
                    with suppress(FileNotFoundError):
                        if file.stem == _STEM and time.time() - file.stat().st_mtime > _SETTLED_S:
                            yield folder.name, _FORMATS[file.suffix]

    def discard(self, sha256: str, fmt: str) -> None:
        """Remove a file, and its folder when nothing else is in it."""
        place = self.path(sha256, fmt)
        place.unlink(missing_ok=True)
        with suppress(OSError):
            place.parent.rmdir()

    def forget_abandoned(self) -> None:
        """Remove what was never received to its end."""
        folder = self.root / _COMING
        for file in folder.iterdir() if folder.is_dir() else ():
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _ABANDONED_S:
                    file.unlink()


def _hash_of(file: BufferedReader) -> str | None:
    """The SHA-256 of an open file, which is at its beginning again; None for what is no regular file."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        return None
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if state not in _HASHED:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if len(_HASHED) >= _MOST_HASHED:
            _HASHED.clear()
        _HASHED[state] = digest
    return _HASHED[state]
