"""Which encoding a text is in, and its bytes as UTF-8."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from optim_core.data.readers.refusals import malformed
from optim_core.data.text import show
from optim_core.spec.errors import DataError

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PIECE = 1 << 16
_NAMES = {"cp1252": "Windows-1252", "iso8859-1": "Latin-1", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


class Utf8Text:
    """A text file of any encoding. ``encoding``: Python's name of it; ``report``: a sentence where it is not UTF-8.

    Raises DataError ``malformed_table``: what was ``given`` does not decode it, or nothing does.
    """

    def __init__(self, file: BinaryIO, name: str, given: str | None) -> None:
        self._file, self.name = file, name
        self._mark, self.encoding, self.report = b"", "utf-8", list[str]()
        head = file.read(4096)
        found = next((row for row in _BOMS if head.startswith(row[0])), None)
        if given is not None:
            self.encoding = codecs.lookup(given).name
            self._mark = found[0] if found and found[1].startswith(self.encoding) else b""
            if self.encoding == "utf-16" and found:
                self._mark, self.encoding = found
            self._check()
            return
        if found:
            self._mark, self.encoding = found
        elif _looks_like_utf16(head):
            self.encoding = "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        self._guess()

    def pieces(self) -> Iterator[bytes]:
        """The text from its beginning as UTF-8, without a byte order mark."""
        self._file.seek(0)
        self._file.read(len(self._mark))
        if self.encoding == "utf-8":
            while piece := self._file.read(_PIECE):
                yield piece
            return
        decoder = codecs.getincrementaldecoder(self.encoding)()
        while piece := self._file.read(_PIECE):
            yield decoder.decode(piece).encode("utf-8", "replace")
        yield decoder.decode(b"", True).encode("utf-8", "replace")

    def stream(self, skip: int = 0) -> BinaryIO:
        """The same as a file, without its first ``skip`` bytes."""
        stream = cast(BinaryIO, io.BufferedReader(_Stream(self.pieces()), _PIECE))
        stream.read(skip)
        return stream

    def _guess(self) -> None:
        why = self._failure(self.encoding)
        if why and self.encoding == "utf-8":
            # As in texts: Windows-1252, else Latin-1, which takes any byte.
            self.encoding = "iso8859-1" if self._failure("cp1252") else "cp1252"
        elif why:
            raise malformed(self.name, f" looks like UTF-16, but {why}")
        if self.encoding != "utf-8":
            reason = f" ({why})" if why else ""
            self.report.append(
                f"The text is read as {_NAMES[self.encoding]}{reason}; encoding: says it where this is wrong."
            )

    def _check(self) -> None:
        try:
            why = self._failure(self.encoding)
        except (LookupError, ValueError) as error:
            why = str(error)
        if why:
            message = f"{show(self.name)} is not in the encoding {self.encoding}: {why}"
            raise DataError(message, code="malformed_table", pointer="/dataset/encoding")

    def _failure(self, encoding: str) -> str:
        self._file.seek(0)
        self._file.read(len(self._mark))
        decoder, place = codecs.getincrementaldecoder(encoding)(), 0
        waiting = 0
        while True:
            piece = self._file.read(_PIECE)
            try:
                decoder.decode(piece, not piece)
            except UnicodeDecodeError as error:
                return f"byte {len(self._mark) + place - waiting + error.start + 1:,} does not fit {encoding.upper()}"
            if not piece:
                return ""
            place += len(piece)
            waiting = len(decoder.getstate()[0])


def _looks_like_utf16(head: bytes) -> bool:
    pairs = len(head) // 2
    return pairs >= 8 and max(head[0::2].count(0), head[1::2].count(0)) > 0.7 * pairs > 10 * min(
        head[0::2].count(0), head[1::2].count(0)
    )


class _Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
