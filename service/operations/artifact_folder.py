"""Where uploaded files lie: one folder for each hash, in it the bytes under a name that says their format alone."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
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
