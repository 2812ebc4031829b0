"""Packs that mix gradient trials and trials of minimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optim_core.engine.direct import DirectRunner
from optim_core.engine.runner import Runner
from optim_core.minimizers.registry import MINIMIZERS
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem

GradientRunner = Callable[[Problem, list[TrialParams], int], Runner]


def runner_for(problem: Problem, trials: list[TrialParams], horizon: int, gradient: GradientRunner) -> Runner:
    """The one runner that all trials need, or both kinds side by side. ``gradient`` builds the engine's own."""
    direct = [trial.configuration.optimizer in MINIMIZERS for trial in trials]
    if not any(direct):
        return gradient(problem, trials, horizon)
    if all(direct):
        return DirectRunner(problem, trials)
    return CompositeRunner(problem, trials, horizon, gradient)


class CompositeRunner:
    """See ``runner.Runner``. Splits the pack, runs both parts and puts the rows back in the order of the pack."""

    def __init__(self, problem: Problem, trials: list[TrialParams], horizon: int, gradient: GradientRunner) -> None:
        order = sorted(range(len(trials)), key=lambda i: trials[i].configuration.optimizer in MINIMIZERS)
        self._back = torch.tensor(order).argsort().to(problem.device)
        count = sum(trial.configuration.optimizer not in MINIMIZERS for trial in trials)
        ordered = [trials[i] for i in order]
        self.gradient = gradient(problem, ordered[:count], horizon)
        self.direct = DirectRunner(problem, ordered[count:])
        self._gradient_rows = torch.tensor(order[:count])

    def advance(self, first: int, last: int) -> Tensor:
        return self._join(self.gradient.advance(first, last), self.direct.advance(first, last))

    def outputs(self, x: Tensor) -> Tensor:
        return self._join(self.gradient.outputs(x), self.direct.outputs(x))

    def observe(self, losses: Tensor) -> None:
        self.gradient.observe(losses[self._gradient_rows])

    def state(self) -> dict[str, Any]:
        return {"gradient": self.gradient.state(), "direct": self.direct.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.gradient.restore(state["gradient"])
        self.direct.restore(state["direct"])

    def weights(self) -> dict[str, Tensor]:
        direct = self.direct.weights()
        return {name: self._join(stacked, direct[name]) for name, stacked in self.gradient.weights().items()}

    def _join(self, gradient: Tensor, direct: Tensor) -> Tensor:
        return torch.cat([gradient, direct])[self._back]
