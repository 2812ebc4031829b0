"""What a trace is: where an optimizer went, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# A run that ends this many times as high above the minimum as it began has left; one that wanders about it has not.
LOST = 10.0


@dataclass(frozen=True)
class Path:
    """A run of T steps: ``points`` (T+1, 2) and ``values`` (T+1,) float64, the start first.

    ``hyperparameters``: all of them, defaults filled in. After a step to something not finite both are NaN. ``diverged``:
    the last value is not finite, or far higher than the first.
    """

    optimizer: str
    label: str
    hyperparameters: Mapping[str, float | bool]
    schedule: Mapping[str, str | float]
    points: Array
    values: Array
    diverged: bool

    @property
    def steps(self) -> int:
        return len(self.values) - 1


def has_diverged(values: Array, lowest: float) -> bool:
    """Whether the run ends nowhere, or ``LOST`` times as high above the minimum as it began (at least 1 is allowed for)."""
    with np.errstate(invalid="ignore"):
        return not (values[-1] - lowest <= LOST * max(values[0] - lowest, 1.0))


def label_of(optimizer: str, given: Mapping[str, float | bool], schedule: Mapping[str, str | float]) -> str:
    """``momentum, lr 0.4, cosine``: the name, what was set by hand, and the schedule unless it is constant."""
    plain = {key: value for key, value in schedule.items() if key != "name"}
    parts = [optimizer, *(f"{key} {_number(value)}" for key, value in given.items())]
    if schedule["name"] != "constant" or plain:
        parts += [str(schedule["name"]), *(f"{key} {_number(value)}" for key, value in plain.items())]
    return ", ".join(parts)


def _number(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else value
