"""NPZ archives to arrays. Sizes are checked in the zip directory and in each array's header before memory is taken;
objects are refused by their type, so nothing in the file is ever executed."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import IO, BinaryIO
from unicodedata import normalize

import numpy as np

from optim_core.data.readers.zip_check import broken, check_entries
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
            entries = check_entries(archive, name)
            _check_names(entries, name)
            return {_name_of(entry): _array(archive, entry) for entry in entries}
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"{show(name)} is a broken archive: {first[:120]}"
        raise DataError(message, code="malformed_archive", pointer="/dataset/path") from None


def _name_of(entry: zipfile.ZipInfo) -> str:
    return normalize("NFC", entry.filename.removesuffix(".npy"))


def _check_names(entries: list[zipfile.ZipInfo], name: str) -> None:
    if not entries:
        raise DataError(f"{show(name)} holds no array", code="empty_file", pointer="/dataset/path")
    for entry in entries:
        if not entry.filename.endswith(".npy") or set("/\\:") & set(entry.filename) or entry.is_dir():
            raise broken(name, f"the entry {show(entry.filename)} is not an array of numpy.savez")


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
