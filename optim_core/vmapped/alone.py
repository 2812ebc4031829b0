"""One trial's step by itself: its random numbers, and the streams as they were before and after."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from optim_core.vmapped.draws import Draws
from optim_core.vmapped.torch_private import checkpoint_plainly
from optim_core.vmapped.trial_mode import TrialMode

_here = threading.local()


def _at_work() -> bool:
    return getattr(_here, "depth", 0) > 0


@contextmanager
def plain_checkpoints() -> Iterator[None]:
    """Inside, on this thread, ``torch.utils.checkpoint.checkpoint`` is a plain call."""
    _once()
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1


_lock = threading.Lock()
_replaced: list[bool] = []


def _once() -> None:
    if not _replaced:
        with _lock:
            if not _replaced:
                checkpoint_plainly(_at_work)
                _replaced.append(True)


class Streams:
    """The state of the streams that people draw from: Python's, NumPy's and torch's."""

    def __init__(self) -> None:
        self._python = random.getstate()
        # The legacy stream is what np.random.rand and its like draw from.
        self._numpy = np.random.get_state()
        self._torch = torch.get_rng_state()
        self._gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def moved(self) -> str:
        """Which stream has been drawn from since; empty for none."""
        if random.getstate() != self._python:
            return "Python's random"
        now: Any = np.random.get_state()
        then: Any = self._numpy
        if now[2:] != then[2:] or not np.array_equal(now[1], then[1]):
            return "NumPy's random"
        gpus = torch.cuda.get_rng_state_all() if self._gpus else []
        if not torch.equal(torch.get_rng_state(), self._torch) or any(
            not torch.equal(a, b) for a, b in zip(gpus, self._gpus, strict=True)
        ):
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


@contextmanager
def streams_kept() -> Iterator[Streams]:
    """Afterwards the streams are where they were before."""
    streams = Streams()
    try:
        yield streams
    finally:
        streams.restore()


@contextmanager
def trial_among(streams: Streams, draws: Draws) -> Iterator[None]:
    """Inside, all that is random follows from the one key of ``draws``."""
    streams.seed(draws.keys[0])
    with plain_checkpoints(), TrialMode(draws):
        yield


@contextmanager
def one_trial(seed: int, step: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Inside, a plain forward and backward draws the numbers that this trial draws at this step in any form and company.

    with one_trial(seed, step):
        loss = loss_of(model, batch)
    loss.backward()
    """
    with streams_kept() as streams, trial_among(streams, Draws([seed], step, torch.device(device))):
        yield
