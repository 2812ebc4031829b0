"""Which reader a file needs, and what a file with the wrong content really is (told from its first bytes)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from optim_core.data.text import show
from optim_core.spec.errors import DataError

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet", ".npz": "npz"}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip archive (a spreadsheet or npz)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program (ELF)"),
    (b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (b"BZh", "bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (b"\x93NUMPY", "a single NumPy array; save it with numpy.savez"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
)
_EXPECTED = {"parquet": (b"PAR1",), "npz": (b"PK\x03\x04", b"PK\x05\x06")}


def file_format(path: Path, declared: str | None) -> str:
    """``csv``, ``parquet`` or ``npz``. Raises DataError ``unsupported_format`` when the name does not tell."""
    found = declared or SUFFIXES.get(path.suffix.lower())
    if found is None:
        message = f"the name {show(path.name)} does not tell the format; give format: csv, parquet, npz or text"
        raise DataError(message, code="unsupported_format", pointer="/dataset/format")
    return found


def check_magic(file: BinaryIO, name: str, fmt: str) -> None:
    """Compare the first bytes with the format and rewind. Raises DataError ``unsupported_format``."""
    head = file.read(64)
    file.seek(0)
    wanted = _EXPECTED.get(fmt)
    if wanted and head.startswith(wanted):
        return
    real = next((what for magic, what in _MAGIC if head.startswith(magic)), None)
    if real is None and fmt != "text" and head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        real = "an HTML or XML page"
    if real is not None or wanted:
        message = f"{show(name)} is not {fmt}: it is {real or 'something else'}"
        raise DataError(message, code="unsupported_format", pointer="/dataset/path")
