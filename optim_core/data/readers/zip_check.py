"""A zip archive's directory, checked before anything in it is unpacked. A small archive can claim any size."""

from __future__ import annotations

import stat
import zipfile
from itertools import pairwise

from optim_core.data.limits import MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES
from optim_core.data.readers.refusals import POINTER
from optim_core.data.text import show
from optim_core.spec.errors import DataError


def check_entries(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The entries. Raises DataError ``malformed_archive``, ``too_large_unpacked``.

    Python's reader stops at the size that the directory states, so that what is added up here is what can come out.
    """
    entries = archive.infolist()
    if len(entries) > MAX_ARCHIVE_ENTRIES:
        raise broken(name, f"it has {len(entries):,} entries; the limit is {MAX_ARCHIVE_ENTRIES:,}")
    if len({e.filename for e in entries}) != len(entries):
        raise broken(name, "two entries have the same name")
    for entry in entries:
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise broken(name, f"the entry {show(entry.filename)} is a link")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise broken(name, f"the entry {show(entry.filename)} is encrypted or oddly compressed")
    if sum(e.file_size for e in entries) > MAX_UNPACKED_BYTES:
        message = f"{show(name)} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes"
        raise DataError(message, code="too_large_unpacked", pointer=POINTER)
    ordered = sorted(entries, key=lambda e: e.header_offset)
    for left, right in pairwise(ordered):
        # 30 bytes is the shortest local header: entries that share bytes are how small archives grow without bound.
        if left.header_offset + 30 + left.compress_size > right.header_offset:
            raise broken(name, "its entries overlap")
    return entries


def broken(name: str, why: str) -> DataError:
    """DataError ``malformed_archive``."""
    return DataError(f"{show(name)}: {why}", code="malformed_archive", pointer=POINTER)
