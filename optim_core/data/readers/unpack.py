"""A gzip file as the bytes in it, which are counted: a small one can claim any size."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any, BinaryIO, cast

from optim_core.data.limits import MAX_UNPACKED_BYTES
from optim_core.data.readers.formats import GZIP
from optim_core.data.readers.refusals import malformed, too_large_unpacked


def unpacked(file: BinaryIO, name: str) -> BinaryIO:
    """``file`` itself, or where it is gzip its content. Reading it raises DataError ``malformed_table`` where it is broken,
    ``too_large_unpacked`` beyond the limit.
    """
    head = file.read(2)
    file.seek(0)
    return cast(BinaryIO, io.BufferedReader(_Unpacked(file, name), 1 << 18)) if head == GZIP else file


class _Unpacked(io.RawIOBase):
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._source, self._spent = gzip.GzipFile(fileobj=file), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) != (0, 0):
            raise OSError("only back to the beginning")
        self._file.seek(0)
        self._source, self._spent = gzip.GzipFile(fileobj=self._file), 0
        return 0

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._source.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise malformed(self._name, f" is a broken gzip file: {error}") from None
        self._spent += len(piece)
        if self._spent > MAX_UNPACKED_BYTES:
            raise too_large_unpacked(self._name)
        buffer[: len(piece)] = piece
        return len(piece)
