"""The streams that people draw from: Python's, NumPy's and torch's."""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch


class Streams:
    """The state of the streams at one moment."""

    def __init__(self) -> None:
        self._python = random.getstate()
        # The legacy stream is what np.random.rand and its like draw from.
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._gpus = _gpus()

    def moved(self) -> str:
        """Which stream has been drawn from since; empty for none."""
        if random.getstate() != self._python:
            return "Python's random"
        now: Any = np.random.get_state()
        then: Any = self._numpy
        if now[2:] != then[2:] or not np.array_equal(now[1], then[1]):
            return "NumPy's random"
        gpus = torch.cuda.get_rng_state_all() if self._gpus else []
        if not torch.equal(torch.get_rng_state(), self._torch) or not all(map(torch.equal, gpus, self._gpus)):
            return "torch's own random stream"
        return ""

    def restore(self) -> None:
        """Everything as it was."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._gpus:
            torch.cuda.set_rng_state_all(self._gpus)

    def seed(self, key: int) -> None:
        """All streams from one 64-bit key."""
        random.seed(key)
        np.random.seed(key & (2**32 - 1))
        torch.default_generator.manual_seed(key)
        if self._gpus:
            torch.cuda.manual_seed_all(key)


class Marks:
    """Where the streams stand, to see whether anybody draws, and to go back there.

    Python's and NumPy's are Mersenne twisters, which give their state away number by number; where they lie in memory as they
    do in the releases that are known, it is read in one piece, in a hundredth of the time. The second normal number of a pair,
    which NumPy keeps elsewhere, is not seen.
    """

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = _python(), _numpy(), [torch.get_rng_state(), *_gpus()]
        self._left_over = _PYTHON.gauss_next

    def moved(self) -> bool:
        """Whether anybody has drawn since."""
        return (
            _python() != self._python
            or _numpy() != self._numpy
            or not all(map(torch.equal, [torch.get_rng_state(), *_gpus()], self._torch))
        )

    def restore(self) -> None:
        """Everything as it was."""
        place, *words = np.frombuffer(self._python, np.uint32).tolist()
        random.setstate((3, (*words, place), self._left_over))
        *key, place = np.frombuffer(self._numpy, np.uint32).tolist()
        np.random.set_state(("MT19937", np.array(key, np.uint32), place, 0, 0.0))
        torch.set_rng_state(self._torch[0])
        if self._torch[1:]:
            torch.cuda.set_rng_state_all(self._torch[1:])


@contextmanager
def streams_kept() -> Iterator[Streams]:
    """Afterwards the streams are where they were before."""
    streams = Streams()
    try:
        yield streams
    finally:
        streams.restore()


def _gpus() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


# NumPy's stubs leave out what holds the generator behind np.random.rand.
_NUMPY: Any = np.random
# The object behind ``random.random``; bytes of a twister: 624 words and a place among them, of 32 bits each.
_PYTHON: Any = random.random.__self__  # type: ignore[attr-defined]
_BYTES = 2500


def _python() -> bytes:
    return ctypes.string_at(id(_PYTHON) + object.__basicsize__, _BYTES)


def _numpy() -> bytes:
    return ctypes.string_at(_NUMPY.get_bit_generator().ctypes.state_address, _BYTES)


@lru_cache(maxsize=1)
def marks_known() -> bool:
    """Whether ``Marks`` can read the twisters of this Python and this NumPy."""
    state: Any = np.random.get_state(legacy=False)
    if sys.implementation.name != "cpython" or state["bit_generator"] != "MT19937":
        return False
    *words, place = random.getstate()[1]
    python = np.array([place, *words], np.uint32).tobytes()
    numpy = np.append(state["state"]["key"], np.uint32(state["state"]["pos"])).tobytes()
    return python == _python() and numpy == _numpy()
