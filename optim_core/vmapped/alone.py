"""One trial's step by itself: its random numbers, and the streams as they were before and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from optim_core.vmapped.draws import Draws
from optim_core.vmapped.streams import Streams, streams_kept
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
