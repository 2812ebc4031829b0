"""Which encoding a text is in, and its bytes as UTF-8.

What is no Unicode is read as Windows-1252, aloud, and with a warning where that gives no words. charset-normalizer, which
other libraries bring along, was weighed: of tables of short cells it takes Mac-Roman for Korean and knows no Windows-1251, and
a wrong guess that reads like words is worse than a warning.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from optim_core.data.readers.refusals import malformed
from optim_core.data.text import show
from optim_core.spec.errors import DataError

# Those of UTF-32 first: one begins with that of UTF-16.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PIECE = 1 << 16
_NAMES = {"cp1252": "Windows-1252", "iso8859-1": "Latin-1", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
_NAMES |= {"utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}
# What Windows-1252 makes of other alphabets: three signs in a row that are not ASCII, marks within words but apostrophes and
# dashes, capitals behind small letters, and codes that stand for nothing.
_APOSTROPHES = "\u2018\u2019\u2013\u2014\u00b7\u00ad\u00a0"
_ODD = re.compile(
    r"[^\x00-\x7f\s]{3,}|[\x80-\x9f]"
    rf"|(?<=[^\W\d_])[^\w\s\x00-\x7f{_APOSTROPHES}](?=[^\W\d_])"
    r"|(?<=[a-z])[\u00c0-\u00de\u0160\u017d\u0178\u0152]"
    # Of the languages that have them hardly any is written in Windows-1252.
    r"|(?<=[A-Za-z])[\u0160\u0161\u017d\u017e\u0178](?=[a-z0-9])"
)
_FOREIGN = re.compile(r"[^\x00-\x7f\xa0]")
_BETWEEN = re.compile(r"[\s,;|\"]")
_AROUND, _SHOWN = 1 << 18, 12


class Utf8Text:
    """A text file of any encoding. ``encoding``: Python's name of it; ``report``: a sentence where it is not UTF-8.

    Raises DataError ``malformed_table``: what was ``given`` does not decode it, or nothing does.
    """

    def __init__(self, file: BinaryIO, name: str, given: str | None) -> None:
        self._file, self.name = file, name
        self._mark, self.encoding, self.report = b"", "utf-8", list[str]()
        self._ends, self._first = False, 0
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

    def end_lines_at_returns(self) -> None:
        """A carriage return alone ends a line, as on old Macs."""
        self._ends = True

    def pieces(self) -> Iterator[bytes]:
        """The text from its beginning as UTF-8, without a byte order mark."""
        return (piece.replace(b"\r", b"\n") for piece in self._decoded()) if self._ends else self._decoded()

    def _decoded(self) -> Iterator[bytes]:
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
            place = self._first
            self.encoding = "iso8859-1" if self._failure("cp1252") else "cp1252"
            self._first = place
        elif why:
            raise malformed(self.name, f" looks like {_NAMES[self.encoding]}, but {why}")
        if self.encoding == "utf-8":
            return
        said = f"he text is read as {_NAMES[self.encoding]}{f' ({why})' if why else ''}"
        odd = self._odd() if why else ""
        if odd:
            which = "encoding: (--encoding) says which it is, such as shift_jis, gb18030, cp1251, koi8-r, mac_roman or cp850"
            self.report.append(f"Warning encoding: t{said} and looks wrong ({show(odd)}): {which}.")
        else:
            self.report.append(f"T{said}; encoding: says it where this is wrong.")

    def _odd(self) -> str:
        """Some of the text where most of what is not ASCII is odd in a Western one."""
        place = self._first
        self._file.seek(0)
        self._file.read(max(0, place - 200))
        text = self._file.read(_AROUND).decode(self.encoding, "replace")
        odd = [found for found in _ODD.finditer(text)]
        count = sum(len(_FOREIGN.findall(found[0])) for found in odd)
        if 2 * count <= len(_FOREIGN.findall(text)):
            return ""
        start = odd[0].start()
        word = (
            _BETWEEN.split(text[max(0, start - _SHOWN) : start])[-1] + _BETWEEN.split(text[start : start + _SHOWN])[0]
        )
        return word or odd[0][0]

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
                self._first = len(self._mark) + place - waiting + error.start
                return f"byte {self._first + 1:,} does not fit {encoding.upper()}"
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
