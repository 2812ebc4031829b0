"""Sizes above which a table is refused before memory is spent on it."""

from __future__ import annotations

MIN_ROWS = 10
MAX_FILE_BYTES = 512 * 2**20
# What a file may grow to once unpacked; a small archive can claim any size.
MAX_UNPACKED_BYTES = 1024 * 2**20
MAX_LINE_BYTES = 8 * 2**20
MAX_COLUMNS = 10_000
MAX_CELLS = 100_000_000
# Of a text: its tokens are held as 64-bit numbers, twice.
MAX_TEXT_BYTES = 32 * 2**20
MAX_SYMBOLS = 10_000
MAX_CLASSES = 1_000
MAX_ARCHIVE_ENTRIES = 1_000
# A category column keeps this many of its levels; the rarer ones share one.
MAX_LEVELS = 50
# Beyond this a float32 model cannot use a number, whatever it means.
MAX_MAGNITUDE = 1e30
