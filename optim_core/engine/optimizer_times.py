"""What a training step with each optimizer costs, one trial alone: times that repeat from one probe to the next."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch

from optim_core.engine.direct import DirectRunner
from optim_core.engine.forms import probe_trials
from optim_core.engine.sequential import Single
from optim_core.engine.turns import Step, fair_clock, ratios, take_turns, usual
from optim_core.minimizers.registry import MINIMIZERS
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.task import Task
from optim_core.transforms.torch_private import foreach_copy_

# Seconds of rounds that only warm up, and of those that count.
WARM_S, PATIENCE_S = 0.05, 0.12
WARM_ROUNDS, FEWEST_ROUNDS, MOST_ROUNDS = 2, 5, 60
# Updates that take so many seconds are timed in so few rounds, and in one only where that takes longer than they may.
LONG_STEP_S, LONG_ROUNDS, LONG_PATIENCE_S = 0.1, 3, 1.0
GRADIENT = "gradient"
HORIZON = WARM_ROUNDS + MOST_ROUNDS + LONG_ROUNDS + 1


def optimizer_seconds(problem: Task, names: Sequence[str], at_once: int) -> dict[str, float]:
    """Seconds of a training step with each of ``names`` at its defaults. ``at_once``: how many trials fit into memory.

    Forward and backward cost the same whoever updates afterwards: they are timed once, as a contender among the updates, and
    belong to every optimizer. So two optimizers differ by their updates alone. A minimizer's step, which is a share of an
    evaluation of all rows, is timed whole, on the average of its rounds.
    """
    size, found = max(1, at_once - 1), {}
    gradients: list[float] = []
    for first in range(0, len(names), size):
        gradients += _race(problem, names[first : first + size], found)
    gradient_s = usual(gradients)
    return {name: gradient_s * (found[name] + (name not in MINIMIZERS)) for name in names}


def _race(problem: Task, names: Sequence[str], found: dict[str, float]) -> list[float]:
    """Time these against the gradients of one trial, into ``found``: steps in units of a gradient. Its seconds."""
    trials = {name: probe_trials(problem, [name])[0] for name in names}
    gradient = _Gradient(problem, probe_trials(problem, ["adamw"])[0])
    updates = {name: _Update(problem, trial, gradient) for name, trial in trials.items() if name not in MINIMIZERS}
    wholes = {name: _Whole(problem, trial) for name, trial in trials.items() if name in MINIMIZERS}
    steps: dict[str, Step] = {GRADIENT: gradient.step, **{name: one.step for name, one in (updates | wholes).items()}}
    prepare: dict[str, Step] = {name: one.prepare for name, one in updates.items()}
    clock = fair_clock(problem.device)
    warm = take_turns(steps, patience_s=WARM_S, fewest=1, most=WARM_ROUNDS, prepare=prepare, clock=clock)
    slow = {name for name, own in warm.items() if min(own) > LONG_STEP_S and name != GRADIENT}
    seconds: list[float] = []
    quick = set(names) - slow
    for part, patience, fewest, most in (
        (quick, PATIENCE_S, FEWEST_ROUNDS, MOST_ROUNDS),
        (slow, LONG_PATIENCE_S, 1, LONG_ROUNDS),
    ):
        racing = {name: step for name, step in steps.items() if name in part or name == GRADIENT}
        times = take_turns(racing, patience_s=patience, fewest=fewest, most=most, prepare=prepare, clock=clock)
        found |= {name: ratio for name, ratio in ratios(times, GRADIENT).items() if name in part}
        found |= {name: mean(times[name]) / mean(times[GRADIENT]) for name in part if name in MINIMIZERS}
        seconds += times[GRADIENT]
    return seconds


class _Gradient:
    """Forward and backward of a trial, whose gradients the updates share."""

    def __init__(self, problem: Task, trial: TrialParams) -> None:
        self.one = Single(problem, trial, HORIZON)
        self.batch, self.found, self._step = self.one.batch(0), {}, 0
        self.step()

    def step(self) -> None:
        """The gradients at the trial's first weights, which nobody updates."""
        self.batch = self.one.batch(self._step)
        _, self.found = self.one.gradients(self.one.parameters, self.batch)
        self._step += 1
        _finish(self.one.problem)


class _Update:
    """An optimizer on weights of its own."""

    def __init__(self, problem: Task, trial: TrialParams, gradient: _Gradient) -> None:
        self._one, self._gradient, self._step = Single(problem, trial, HORIZON), gradient, 0
        # Some methods write into gradients, so each has its own.
        self._own = {name: g.clone() for name, g in gradient.found.items()}

    def prepare(self) -> None:
        """The gradients of this round."""
        foreach_copy_(list(self._own.values()), [self._gradient.found[name] for name in self._own])

    def step(self) -> None:
        """One update."""
        self._one.update(self._step, self._gradient.batch, self._own)
        self._step += 1
        _finish(self._one.problem)


class _Whole:
    """A minimizer, which evaluates all rows itself."""

    def __init__(self, problem: Task, trial: TrialParams) -> None:
        assert isinstance(problem, Problem)
        self._problem, self._runner, self._step = problem, DirectRunner(problem, [trial]), 0

    def step(self) -> None:
        """What one mini-batch step's cost buys."""
        self._runner.advance(self._step, self._step + 1)
        self._step += 1
        _finish(self._problem)


def _finish(problem: Task) -> None:
    if problem.device.type == "cuda":
        torch.cuda.synchronize(problem.device)
