"""Where a data set file may lie, and how it is opened. The answer never tells whether a forbidden path exists."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from optim_core.data.limits import MAX_FILE_BYTES
from optim_core.data.text import show
from optim_core.spec.errors import DataError

POINTER = "/dataset/path"
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
# Spellings of ".." that some other layer might decode: never a file that a person meant.
_DISGUISED = re.compile(r"\\|%(25)*(2e|2f|5c)|\x00", re.IGNORECASE)


def resolve_path(path: str, roots: Sequence[str] | None) -> Path:
    """The absolute path with symbolic links resolved. Relative paths start at the current directory.

    ``roots``: folders in which files may lie; None means anywhere (a person's own machine). Raises DataError
    ``path_not_allowed`` for a path outside the roots, a URL, or anything but a regular file; ``file_missing`` when
    nothing is there.
    """
    if _SCHEME.match(path) or "\x00" in path:
        raise _refused("data sets are read from files, not from addresses")
    try:
        if roots is None:
            resolved = Path(path).expanduser().resolve()
        else:
            if _DISGUISED.search(path) or path.startswith("~"):
                raise _refused("this is not a plain path below the data folders")
            resolved = Path(path).resolve()
            if not any(resolved.is_relative_to(Path(root).resolve()) for root in roots):
                raise _refused("it lies outside the folders that this server reads data sets from")
        mode = resolved.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no file {show(path, 200)}", code="file_missing", pointer=POINTER) from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be resolved"
        raise DataError(f"{show(path, 200)} cannot be read: {reason}", code="file_missing", pointer=POINTER) from None
    if not stat.S_ISREG(mode):
        raise _refused(f"{show(path, 200)} is not a regular file")
    return resolved


def open_regular(path: Path) -> BinaryIO:
    """Open a resolved path for reading. Refuses a link or a device put there since, and files over the size limit."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        message = f"{show(path.name)} cannot be opened: {error.strerror}"
        raise DataError(message, code="file_missing", pointer=POINTER) from None
    file = os.fdopen(descriptor, "rb")
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        file.close()
        raise _refused(f"{show(path.name)} is not a regular file")
    if info.st_size > MAX_FILE_BYTES:
        file.close()
        message = f"{show(path.name)} has {info.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}"
        raise DataError(message, code="too_large", pointer=POINTER)
    if info.st_size == 0:
        file.close()
        raise DataError(f"{show(path.name)} is empty", code="empty_file", pointer=POINTER)
    return file


def _refused(why: str) -> DataError:
    return DataError(f"this path is not allowed: {why}", code="path_not_allowed", pointer=POINTER)
