"""Steps of several optimizers timed in turn, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.step_models import gradients, make

PATIENCE = 15.0
ENOUGH = 20


class Contender:
    """An optimizer with a model and gradients of its own; all contenders start at the same weights."""

    def __init__(self, build_model: Callable[[], nn.Module], build: Callable[[nn.Module], Any], closure: bool) -> None:
        self.model = make(build_model)
        self.weights = list(self.model.parameters())
        self.sets = gradients(self.model)
        self.held = [torch.zeros_like(p) for p in self.weights]
        self._look_again()
        self.optimizer = build(self.model)
        # SAM asks for the loss again; its gradients are those that lie there already.
        self.arguments = (self._look_again,) if closure else ()
        self.steps = 0

    def step(self) -> float:
        """Seconds that one step takes. Some optimizers write into gradients, so they are filled in again before it."""
        self._look_again()
        torch._foreach_copy_(self.held, self.sets[self.steps % len(self.sets)])
        self.steps += 1
        start = time.perf_counter_ns()
        self.optimizer.step(*self.arguments)
        return (time.perf_counter_ns() - start) * 1e-9

    def _look_again(self) -> Tensor:
        for p, g in zip(self.weights, self.held, strict=True):
            p.grad = g
        return torch.zeros(())

    def healthy(self) -> bool:
        """Whether all weights are finite: a diverged method may be timed on NaN."""
        return all(bool(p.isfinite().all()) for p in self.weights)


@dataclass(frozen=True)
class Ratio:
    """Median of ours/theirs over pairs of neighbouring steps, with a 95 % interval free of assumptions on their law."""

    median: float
    low: float
    high: float


def race(
    contenders: dict[str, Contender], rounds: int, period: int, warmup: int, seed: int = 0
) -> dict[str, list[float]]:
    """Seconds per step, ``rounds`` of each; a sample is the mean over ``period`` steps, for methods with rare hard steps.

    Slow methods stop after ``ENOUGH`` samples once ``PATIENCE`` seconds are over.
    """
    order, begun = random.Random(seed), time.monotonic()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for each in contenders.values():
        for _ in range(warmup):
            each.step()
    for done in range(1, rounds + 1):
        total = dict.fromkeys(contenders, 0.0)
        for _ in range(period):
            for name in order.sample(list(contenders), len(contenders)):
                total[name] += contenders[name].step()
        for name, seconds in total.items():
            samples[name].append(seconds / period)
        if done >= ENOUGH and time.monotonic() - begun > PATIENCE:
            break
    return samples


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """The interval is made of order statistics (the sign test's)."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    n = len(ratios)
    out = max(0, int((n - 1.96 * n**0.5) / 2))
    return Ratio(statistics.median(ratios), ratios[out], ratios[n - 1 - out])


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all that the optimizer keeps for its weights, without step counters; numbers of a trial count 8 each."""
    states = optimizer.state_dict()["state"].values()
    trial = {key for own in states for key in own if str(key).startswith("trial.")}
    counted = {"step", "model_step", *trial}
    tensors = [v for own in states for key, v in own.items() if isinstance(v, Tensor) and key not in counted]
    return sum(x.numel() * x.element_size() for x in tensors) + 8 * len(trial)
