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
from optim_core.spec.placed import FILE_NAMES

_PIPED = re.compile(r"[0-9a-f]{64}(\.[a-z]+)+")
POINTER = "/dataset/path"
WEIGHTS_POINTER = "/training/fine_tune/weights"
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
# Spellings of ".." that some other layer might decode: never a file that a person meant.
_DISGUISED = re.compile(r"\\|%(25)*(2e|2f|5c)", re.IGNORECASE)
# Before a folder in which nothing is read, though it lies below a root.
CLOSED = "!"
_HIDDEN = "names that begin with a dot are read only below a folder that is named to this server"
_OUTSIDE = "it lies outside the folders that this server reads data sets from"
# A device or a pipe must not make us wait.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
# Passing through a folder takes no right to list it.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


def open_file(path: str, roots: Sequence[str] | None, pointer: str = POINTER) -> tuple[Path, BinaryIO]:
    """The absolute path with symbolic links resolved, and that very file, open for reading in this process. The one way in
    which a file that a person names is opened. Relative paths start at the current directory.

    ``roots``: folders in which files may lie; None means anywhere (a person's own machine). Below them nothing is read whose
    name, or a folder's, begins with a dot, nor what lies in an entry that begins with ``!``, unless a root lies in there.
    A hard link is as good as the file: links of others' files are the system's to refuse (``fs.protected_hardlinks``).
    What is opened is what was checked: a link that is put into the path meanwhile is not followed. ``pointer``: the field
    that names it. Raises DataError
    ``path_not_allowed`` for a path outside the roots, a URL, or anything but a regular file; ``file_missing`` when nothing is
    there; ``too_large``; ``empty_file``.
    """
    try:
        return _open(path, roots)
    except (FileNotFoundError, NotADirectoryError):
        code, message = "file_missing", f"there is no file {show(path, 200)}"
    except _Refused as refused:
        code, message = "path_not_allowed", f"this path is not allowed: {refused}"
    except _Unusable as unusable:
        code, message = unusable.args[0], f"{show(shown_name(Path(path)))} {unusable.args[1]}"
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be resolved"
        code, message = "file_missing", f"{show(path, 200)} cannot be read: {reason}"
    raise DataError(message, code=code, pointer=pointer)


def shown_name(path: Path) -> str:
    """What ``path`` is called in messages: ``stdin`` where it holds what came through a pipe, named by its content; of an
    uploaded file its own name.
    """
    return "stdin" if _PIPED.fullmatch(path.name) else FILE_NAMES.get().get(os.path.realpath(path), path.name)


class _Refused(Exception):
    """Why a path is not allowed."""


class _Unusable(Exception):
    """(code, half a sentence)"""


def _open(path: str, roots: Sequence[str] | None) -> tuple[Path, BinaryIO]:
    if _SCHEME.match(path) or "\x00" in path:
        raise _Refused("data sets are read from files, not from addresses")
    if roots is None:
        resolved = Path(path).expanduser().resolve()
        descriptor = os.open(resolved, _READ)
    else:
        if _DISGUISED.search(path) or path.startswith("~"):
            raise _Refused("this is not a plain path below the data folders")
        resolved, descriptor = _open_below(path, roots)
    try:
        _check(os.fstat(descriptor))
    except (_Refused, _Unusable):
        os.close(descriptor)
        raise
    return resolved, os.fdopen(descriptor, "rb")


def _open_below(path: str, roots: Sequence[str]) -> tuple[Path, int]:
    # First by its name alone: of what lies outside nothing is looked at.
    closed = [Path(root[1:]).resolve() for root in roots if root.startswith(CLOSED)]
    roots = [root for root in roots if not root.startswith(CLOSED)]
    named, folders = Path(os.path.abspath(path)), [Path(root).resolve() for root in roots]
    if not any(named.is_relative_to(root) for root in (*map(os.path.abspath, roots), *folders)):
        raise _Refused(_OUTSIDE)
    resolved = named.resolve()
    shut = [one for one in closed if resolved.is_relative_to(one)]
    above = [
        folder
        for folder in folders
        if resolved.is_relative_to(folder) and all(folder.is_relative_to(one) for one in shut)
    ]
    if not above:
        raise _Refused(_OUTSIDE)
    root = max(above, key=lambda folder: len(folder.parts))
    if any(part.startswith(".") for part in resolved.relative_to(root).parts):
        raise _Refused(_HIDDEN)
    *between, name = resolved.relative_to(root).parts or (".",)
    held = os.open(root, _FOLDER)
    try:
        for folder in between:
            below = os.open(folder, _FOLDER | _NO_LINK, dir_fd=held)
            os.close(held)
            held = below
        return resolved, os.open(name, _READ, dir_fd=held)
    finally:
        os.close(held)


def _check(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise _Refused("it is not a regular file")
    if info.st_size > MAX_FILE_BYTES:
        raise _Unusable("too_large", f"has {info.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
    if info.st_size == 0:
        raise _Unusable("empty_file", "is empty")
