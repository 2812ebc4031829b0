"""A text as codes of its tokens: bytes as they are, or characters by their place among those that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optim_core.data.limits import MAX_SYMBOLS, MAX_TEXT_BYTES
from optim_core.data.paths import POINTER, open_file, shown_name
from optim_core.data.python_docs import python_docs
from optim_core.data.readers.formats import check_magic
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
from optim_core.spec.problem import BuiltinDataset, FileDataset

_BOM = b"\xef\xbb\xbf"
BYTES = 256


@dataclass(frozen=True)
class Text:
    """``codes``: (n,) uint8 of bytes, int32 of characters, from 0 to ``symbols`` − 1. ``unit``: ``bytes`` or ``characters``.

    ``symbols``: 256 bytes, or how many characters the text has. ``report``: what was read and how, a sentence each.
    """

    codes: np.ndarray
    symbols: int
    unit: str
    report: list[str]


def read_text(dataset: BuiltinDataset | FileDataset, roots: Sequence[str] | None = None) -> Text:
    """The text of ``dataset``. ``roots``: folders in which files may lie; None means anywhere.

    Raises DataError as tables do: ``path_not_allowed``, ``file_missing``, ``empty_file``, ``too_large``,
    ``unsupported_format`` for what is another kind of file; of characters also ``not_text`` and ``too_many_symbols``.
    """
    if isinstance(dataset, BuiltinDataset):
        name, raw = f"the bundled text {dataset.name}", python_docs()
    else:
        path, file = open_file(dataset.path, roots)
        name = show(shown_name(path))
        with file:
            check_magic(file, shown_name(path), "text")
            raw = file.read(MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        message = f"{name} is longer than the {MAX_TEXT_BYTES:,} bytes that a text may have; give a part of it"
        raise DataError(message, code="too_large", pointer=POINTER)
    unit, mark = dataset.unit or "bytes", raw.startswith(_BOM)
    marked = "; the byte order mark in front was left out" if mark else ""
    raw = raw.removeprefix(_BOM)
    if not raw:
        raise DataError(f"{name} is empty", code="empty_file", pointer=POINTER)
    if unit == "bytes":
        return Text(np.frombuffer(raw, np.uint8), BYTES, unit, [f"Read {plural(len(raw), 'byte')} of {name}{marked}."])
    text, how = _decoded(raw, name)
    codes, symbols = _numbered(text, name)
    sentence = f"Read {plural(len(text), 'character')} of {name}, {symbols:,} different ones, {how}{marked}."
    return Text(codes, symbols, unit, [sentence])


def _decoded(raw: bytes, name: str) -> tuple[str, str]:
    """The text, and how it was decoded: UTF-8, else Windows-1252, else Latin-1, which takes any byte."""
    if b"\0" in raw:
        place = raw.index(b"\0")
        message = f"{name} holds a NUL (byte {place + 1:,}), so it is no plain text; take unit: bytes"
        raise DataError(message, code="not_text", pointer=POINTER)
    try:
        return raw.decode("utf-8"), "in UTF-8"
    except UnicodeDecodeError as error:
        why = f"byte {error.start + 1:,} is not UTF-8"
    try:
        return raw.decode("cp1252"), f"in Windows-1252 ({why})"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), f"in Latin-1 ({why})"


def _numbered(text: str, name: str) -> tuple[np.ndarray, int]:
    """(n,) int32 places of the characters among those of the whole text in order, and how many there are."""
    points = np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
    known, codes = np.unique(points, return_inverse=True)
    if len(known) > MAX_SYMBOLS:
        message = f"{name} has {len(known):,} different characters; the limit is {MAX_SYMBOLS:,}: take unit: bytes"
        raise DataError(message, code="too_many_symbols", pointer="/dataset/unit")
    return codes.reshape(-1).astype(np.int32), len(known)
