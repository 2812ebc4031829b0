"""NPZ archives to arrays. Sizes are checked in the zip directory and in each array's header before memory is taken;
objects are refused by their type, so nothing in the file is ever executed."""

from __future__ import annotations

import math
import stat
import zipfile
import zlib
from itertools import pairwise
from typing import IO, BinaryIO

import numpy as np

from optim_core.data.limits import MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES
from optim_core.data.text import show
from optim_core.spec.errors import DataError

_MAX_HEADER = 4096
_READ = 1 << 20


def read_npz(file: BinaryIO, name: str) -> dict[str, np.ndarray]:
    """Array name → array in native byte order (numbers, booleans or text; at least one dimension).

    Raises DataError ``malformed_archive``, ``malformed_array``, ``object_array``, ``unsupported_dtype``,
    ``too_large_unpacked``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, name)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"{show(name)} is a broken archive: {first[:120]}"
        raise DataError(message, code="malformed_archive", pointer="/dataset/path") from None


def _check_entries(entries: list[zipfile.ZipInfo], name: str) -> None:
    def refuse(why: str) -> DataError:
        return DataError(f"{show(name)}: {why}", code="malformed_archive", pointer="/dataset/path")

    if not entries:
        raise DataError(f"{show(name)} holds no array", code="empty_file", pointer="/dataset/path")
    if len(entries) > MAX_ARCHIVE_ENTRIES:
        raise refuse(f"it has {len(entries):,} entries; the limit is {MAX_ARCHIVE_ENTRIES:,}")
    if len({e.filename for e in entries}) != len(entries):
        raise refuse("two entries have the same name")
    for entry in entries:
        plain = entry.filename.endswith(".npy") and not set("/\\:") & set(entry.filename)
        if not plain or entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
            raise refuse(f"the entry {show(entry.filename)} is not an array of numpy.savez")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refuse(f"the entry {show(entry.filename)} is encrypted or oddly compressed")
    if sum(e.file_size for e in entries) > MAX_UNPACKED_BYTES:
        message = f"{show(name)} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes"
        raise DataError(message, code="too_large_unpacked", pointer="/dataset/path")
    ordered = sorted(entries, key=lambda e: e.header_offset)
    for left, right in pairwise(ordered):
        # 30 bytes is the shortest local header: entries that share bytes are how small archives grow without bound.
        if left.header_offset + 30 + left.compress_size > right.header_offset:
            raise refuse("its entries overlap")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    label = show(entry.filename.removesuffix(".npy"))
    with archive.open(entry) as source:
        try:
            shape, fortran, dtype = _read_header(source)
        except (zipfile.BadZipFile, zlib.error):
            raise
        except Exception:  # the header parser of numpy evaluates a literal: any failure means a bad header
            message = f"array {label} has an unreadable header"
            raise DataError(message, code="malformed_array", pointer="/dataset/path") from None
        _check_dtype(dtype, shape, label)
        size = math.prod(shape) * dtype.itemsize
        if any(n < 0 for n in shape) or size != entry.file_size - source.tell():
            message = f"array {label} claims the shape {shape}, which does not fit its {entry.file_size:,} bytes"
            raise DataError(message[:200], code="malformed_array", pointer="/dataset/path")
        data = bytearray()
        while piece := source.read(_READ):
            data += piece
        if len(data) != size:
            raise DataError(f"array {label} is cut short", code="malformed_array", pointer="/dataset/path")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False))


def _read_header(source: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(source)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):
        raise ValueError("unknown version")
    return read(source, max_header_size=_MAX_HEADER)


def _check_dtype(dtype: np.dtype, shape: tuple[int, ...], label: str) -> None:
    if dtype.hasobject:
        message = f"array {label} holds Python objects; save numbers or text instead"
        raise DataError(message, code="object_array", pointer="/dataset/path")
    if dtype.kind not in "fiubU" or dtype.itemsize == 0 or not shape:
        what = "a single value" if not shape else f"the type {dtype.name}"
        message = f"array {label} is {what}; arrays of numbers, flags or text are needed"
        raise DataError(message, code="unsupported_dtype", pointer="/dataset/path")
