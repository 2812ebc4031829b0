"""Memory that is freed stays with the process.

glibc returns large blocks to the system when they are freed. Every step would fetch them again, page by page, which cost a
fifth to a third of a step of a large pack. One memory arena for all threads, because those of threads cannot grow beyond
64 MB and fall back to the system.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
KEPT_BYTES, PAD_BYTES, LARGEST_BLOCK = 2**31 - 1, 2**26, 2**30


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tell the allocator, once per process. Returns whether it listened: only glibc does."""
    if not sys.platform.startswith("linux"):
        return False
    settings = (
        (M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST_BLOCK), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES),
    )  # fmt: skip
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in settings])
