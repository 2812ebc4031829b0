"""The global random streams of Python, NumPy and torch, in which people's code draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the streams start from ``seed`` (0 … 2³² − 1); afterwards they go on as if nothing had been drawn.

    A GPU's streams too, once torch has been asked for one.
    """
    before = _state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if gpus is not None:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


class Drawn:
    """Whether anything has been drawn from the streams since it was made."""

    def __init__(self) -> None:
        self._before = _state()

    def __bool__(self) -> bool:
        (python, numbers, own), now = self._before, _state()
        same = python == now[0] and numbers[2] == now[1][2] and np.array_equal(numbers[1], now[1][1])
        return not (same and torch.equal(own, now[2]))


def _state() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()
