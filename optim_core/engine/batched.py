"""K trials at once: stacked weights, one vectorised forward, one backward over the sum of the losses.

The gradient of a sum of independent losses is each loss's own gradient, so one backward serves all trials. Updates run
per optimizer on its slice of the trial axis; trials are kept in the order of their optimizer so that slices are views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from optim_core.engine.hyper import HyperTable, clip_of, decay_rule, hyper_table
from optim_core.engine.seeding import BatchOrder
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.dropout import STEP, set_step
from optim_core.transforms.base import State, Transform
from optim_core.transforms.clip import clip_by_global_norm
from optim_core.transforms.registry import build_transform


class _Group:
    """The slice of the pack that one optimizer updates."""

    def __init__(self, span: slice, transform: Transform, table: HyperTable) -> None:
        self.span, self.transform, self.table = span, transform, table
        self.memory: State = {}

    def update(self, weights: dict[str, Tensor], grads: dict[str, Tensor], step: int) -> None:
        own = {name: p.detach()[self.span] for name, p in weights.items()}
        part = {name: g[self.span] for name, g in grads.items()}
        new, self.memory = self.transform.update(own, part, self.memory, self.table.at(step), step + 1)
        for name, p in own.items():
            p.copy_(new[name])


class BatchedRunner:
    """See ``runner.Runner``."""

    def __init__(self, problem: Problem, trials: list[TrialParams], horizon: int) -> None:
        order = sorted(range(len(trials)), key=lambda i: (trials[i].configuration.optimizer, i))
        self.trials = [trials[i] for i in order]
        self._back = torch.tensor(order).argsort().to(problem.device)
        self.problem = problem
        models = [problem.make_model(trial.seed) for trial in self.trials]
        self.skeleton = models[0]
        self.parameters, self.buffers = stack_module_state(models)  # type: ignore[arg-type]
        self._drops = any(name.rpartition(".")[2] == STEP for name in self.buffers)
        clips = [clip_of(trial.configuration) for trial in self.trials]
        self._clip = None
        if min(clips) < float("inf"):
            self._clip = torch.tensor(clips, dtype=torch.float64, device=problem.device)
        self._groups = self._make_groups(horizon)
        seeds = sorted({trial.seed for trial in self.trials})
        self._orders = [BatchOrder(len(problem.train.y), problem.batch_size, seed) for seed in seeds]
        self._order_of = torch.tensor([seeds.index(trial.seed) for trial in self.trials])
        shared = None if len(seeds) == 1 else 0
        self._losses = torch.vmap(self._loss, in_dims=(0, 0, shared, shared))

    def _make_groups(self, horizon: int) -> list[_Group]:
        decays, groups, first = decay_rule(self.skeleton), [], 0
        names = [trial.configuration.optimizer for trial in self.trials]
        while first < len(names):
            last = first + names[first:].count(names[first])
            span = slice(first, last)
            table = hyper_table([t.configuration for t in self.trials[span]], horizon, self.problem.device)
            group = _Group(span, build_transform(names[first], decays), table)
            group.memory = group.transform.init({n: p.detach()[span] for n, p in self.parameters.items()})
            groups.append(group)
            first = last
        return groups

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return self.problem.loss(functional_call(self.skeleton, (parameters, buffers), (x,)), y)

    def _rows(self, step: int) -> Tensor:
        rows = [order.rows(step) for order in self._orders]
        chosen = rows[0] if len(rows) == 1 else torch.stack(rows)[self._order_of]
        return chosen.to(self.problem.device)

    def advance(self, first: int, last: int) -> Tensor:
        self.skeleton.train()
        losses = [self._step(step) for step in range(first, last)]
        return torch.stack(losses, dim=1)[self._back]

    def _step(self, step: int) -> Tensor:
        rows = self._rows(step)
        if self._drops:
            set_step(self.buffers, step)
        x, y = self.problem.train.x[rows], self.problem.train.y[rows]
        losses = self._losses(self.parameters, self.buffers, x, y)
        found = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        with torch.no_grad():
            grads = dict(zip(self.parameters, found, strict=True))
            if self._clip is not None:
                grads = clip_by_global_norm(grads, self._clip, batched=True)
            for group in self._groups:
                group.update(self.parameters, grads, step)
        return losses.detach()

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        self.skeleton.eval()

        def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self.skeleton, (parameters, buffers), (x,))

        return torch.vmap(forward)(self.parameters, self.buffers)[self._back]

    def state(self) -> dict[str, Any]:
        return {
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "buffers": dict(self.buffers),
            "memory": [group.memory for group in self._groups],
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        for mine, stored in ((self.parameters, state["parameters"]), (self.buffers, state["buffers"])):
            for name, tensor in mine.items():
                tensor.copy_(stored[name])
        for group, memory in zip(self._groups, state["memory"], strict=True):
            group.memory = memory

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach()[self._back] for name, p in self.parameters.items()}
