"""The reference engine: each trial alone, eager autograd on a plain module, hyperparameters as Python floats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.engine.hyper import clip_of, decay_rule, numbers
from optim_core.engine.seeding import BatchOrder
from optim_core.schedules.shapes import multipliers
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.dropout import set_step
from optim_core.transforms.clip import clip_by_global_norm
from optim_core.transforms.registry import build_transform


class _Single:
    """One trial."""

    def __init__(self, problem: Problem, trial: TrialParams, horizon: int) -> None:
        configuration = trial.configuration
        self.problem = problem
        self.model = problem.make_model(trial.seed)
        self.parameters = dict(self.model.named_parameters())
        self.transform = build_transform(configuration.optimizer, decay_rule(self.model))
        self.memory = self.transform.init({n: p.detach() for n, p in self.parameters.items()})
        self.hyper = numbers(configuration)
        self.factors = multipliers(configuration.schedule, horizon).tolist()
        self.clip = clip_of(configuration)
        self.order = BatchOrder(len(problem.train.y), problem.batch_size, trial.seed)

    def step(self, step: int) -> Tensor:
        rows = self.order.rows(step).to(self.problem.device)
        set_step(dict(self.model.named_buffers()), step)
        self.model.train()
        loss = self.problem.loss(self.model(self.problem.train.x[rows]), self.problem.train.y[rows])
        found = torch.autograd.grad(loss, list(self.parameters.values()))
        grads = dict(zip(self.parameters, found, strict=True))
        if self.clip < float("inf"):
            grads = clip_by_global_norm(grads, self.clip, batched=False)
        with torch.no_grad():
            hyper = {**self.hyper, "lr": self.hyper["lr"] * self.factors[step]}
            weights = {n: p.detach() for n, p in self.parameters.items()}
            new, self.memory = self.transform.update(weights, grads, self.memory, hyper, step + 1)
            for name, p in self.parameters.items():
                p.copy_(new[name])
        return loss.detach()


class SequentialRunner:
    """See ``runner.Runner``."""

    def __init__(self, problem: Problem, trials: list[TrialParams], horizon: int) -> None:
        self.singles = [_Single(problem, trial, horizon) for trial in trials]

    def advance(self, first: int, last: int) -> Tensor:
        return torch.stack([torch.stack([one.step(t) for t in range(first, last)]) for one in self.singles])

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        found = []
        for one in self.singles:
            one.model.eval()
            found.append(one.model(x))
        return torch.stack(found)

    def state(self) -> dict[str, Any]:
        return {"trials": [{"model": dict(one.model.state_dict()), "memory": one.memory} for one in self.singles]}

    def restore(self, state: dict[str, Any]) -> None:
        for one, stored in zip(self.singles, state["trials"], strict=True):
            one.model.load_state_dict(stored["model"])
            one.memory = stored["memory"]

    def weights(self) -> dict[str, Tensor]:
        names = self.singles[0].parameters
        return {name: torch.stack([one.parameters[name].detach() for one in self.singles]) for name in names}
