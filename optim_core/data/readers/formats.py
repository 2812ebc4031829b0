"""Which reader a file needs, and what a file with the wrong content really is (told from its first bytes)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

from optim_core.data.text import show
from optim_core.spec.errors import DataError

SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".dat": "csv",
    ".json": "json", ".jsonl": "json", ".ndjson": "json",
    ".parquet": "parquet", ".pq": "parquet", ".feather": "arrow", ".arrow": "arrow", ".ipc": "arrow",
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".arff": "arff", ".npz": "npz",
}  # fmt: skip
# Those that may lie in a gzip file.
TEXTS = frozenset({"csv", "json", "arff"})
GZIP = b"\x1f\x8b"
_ARROW_STREAM = b"\xff\xff\xff\xff"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "a Feather file of version 1; write it again with a later pandas"),
    (b"PK\x03\x04", "a zip archive (a spreadsheet or npz)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program (ELF)"),
    (GZIP, "gzip-compressed; unpack it first"),
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
    (b"\0\0\xfe\xff", "UTF-32 text; save it as UTF-8"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save it as .xlsx"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_EXPECTED = {"parquet": (b"PAR1",), "npz": _ZIP, "xlsx": _ZIP, "arrow": (b"ARROW1", _ARROW_STREAM)}


def file_format(path: Path, declared: str | None) -> str:
    """``csv``, ``json``, ``parquet``, …: what was declared, else by the name, with or without ``.gz``.

    Raises DataError ``unsupported_format`` when the name does not tell.
    """
    suffix = path.suffix.lower()
    packed = suffix == ".gz"
    found = declared or SUFFIXES.get(Path(path.stem).suffix.lower() if packed else suffix)
    if found is None or (packed and found not in TEXTS and declared is None):
        message = (
            f"the name {show(path.name)} does not tell the format; give format: csv, json, parquet, arrow, xlsx, arff, "
            "npz or text"
        )
        raise DataError(message, code="unsupported_format", pointer="/dataset/format")
    return found


def piped_suffix(head: bytes) -> str:
    """The suffix of a table without a name, from its first bytes: that of csv unless they say otherwise."""
    if head.startswith(GZIP):
        # What is cut off in the middle still shows its beginning.
        try:
            return f"{piped_suffix(zlib.decompressobj(31).decompress(head, 1 << 16))}.gz"
        except zlib.error:
            return ".csv.gz"
    for fmt in ("parquet", "arrow"):
        if head.startswith(_EXPECTED[fmt]):
            return f".{fmt}"
    if head.startswith(_ZIP):
        return ".npz" if b".npy" in head[:512] else ".xlsx"
    bare = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xff\xfe\xbf \t\r\n")
    if bare.startswith(b"{") or (bare.startswith(b"[") and bare[1:].lstrip().startswith(b"{")):
        return ".json"
    lines = (line for line in bare.lower().splitlines() if line.strip() and not line.startswith(b"%"))
    return ".arff" if next(lines, b"").startswith(b"@relation") else ".csv"


def check_magic(file: BinaryIO, name: str, fmt: str) -> None:
    """Compare the first bytes with the format and rewind. Raises DataError ``unsupported_format``."""
    head = file.read(64)
    file.seek(0)
    wanted = _EXPECTED.get(fmt)
    if wanted and head.startswith(wanted):
        return
    passed = _UTF16 if fmt in TEXTS else ()
    real = next((what for magic, what in _MAGIC if head.startswith(magic) and magic not in passed), None)
    if real is None and fmt != "text" and head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        real = "an HTML or XML page"
    if real is not None or wanted:
        message = f"{show(name)} is not {fmt}: it is {real or 'something else'}"
        raise DataError(message, code="unsupported_format", pointer="/dataset/path")
