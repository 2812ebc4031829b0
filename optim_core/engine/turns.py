"""Steps of several contenders timed in turn, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

Name = TypeVar("Name")
# Takes a step, and has come to its end when it returns.
Step = Callable[[], object]
Clock = Callable[[], float]


def fair_clock(device: torch.device) -> Clock:
    """Seconds that this thread computes, where all of a step happens in it: then others on the machine hardly count. Else
    seconds that pass.
    """
    return time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def take_turns(
    steps: Mapping[Name, Step],
    *,
    patience_s: float,
    fewest: int,
    most: int,
    prepare: Mapping[Name, Step] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[Name, list[float]]:
    """Seconds of a step of each contender in each round. A round is one step of each, in an order that changes.

    Rounds end with ``most``, or once ``patience_s`` are over and there were ``fewest``. ``prepare``: what comes before a
    contender's step and does not count.
    """
    names, begun = list(steps), clock()
    times: dict[Name, list[float]] = {name: [] for name in names}
    for number in range(most):
        if number >= fewest and clock() - begun > patience_s:
            break
        for name in _order(names, number):
            if prepare and name in prepare:
                prepare[name]()
            start = clock()
            steps[name]()
            times[name].append(clock() - start)
    return times


def _order(names: list[Name], number: int) -> list[Name]:
    """Another one begins each round, and every second round goes the other way round: nobody always follows the same."""
    first = number // 2 % len(names)
    turned = names[first:] + names[:first]
    return turned[::-1] if number % 2 else turned


def ratios(times: Mapping[Name, Sequence[float]], reference: Name) -> dict[Name, float]:
    """How many steps of ``reference`` a step of each contender takes: the median over rounds of the ratio in one round.

    What slows a whole round leaves it as it is, and what slows single steps is no median.
    """
    other = times[reference]
    return {name: statistics.median(a / b for a, b in zip(own, other, strict=True)) for name, own in times.items()}


def usual(times: Sequence[float]) -> float:
    """The value below which a quarter of ``times`` lies: others on the machine only ever slow steps."""
    return sorted(times)[len(times) // 4]
