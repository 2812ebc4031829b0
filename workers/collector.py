"""Python's garbage collector, out of the way while a process imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Import without collecting. Afterwards what there is counts as permanent, so that no later collection looks at it.

    Torch alone leaves half a million objects: looking at them again and again takes a fifth of the time of importing it.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if on:
            gc.enable()
