"""The global random streams of Python, NumPy and torch, in which people's code draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optim_core.vmapped import streams_kept


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the streams start from ``seed``; afterwards they go on as if nothing had been drawn."""
    with streams_kept() as streams:
        streams.seed(seed)
        yield
