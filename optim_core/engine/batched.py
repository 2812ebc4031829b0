"""K trials at once: stacked weights, one vectorised forward, one backward over the sum of the losses.

The gradient of a sum of independent losses is each loss's own gradient, so one backward serves all trials. Updates run
per optimizer on its slice of the trial axis; trials are kept in the order of their optimizer so that slices are views.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from optim_core.engine.hyper import HyperTable, hyper_table, layout_of, transform_techniques, used
from optim_core.engine.norms import MEASURED_ROWS, measure, norms_of
from optim_core.engine.plateau import Plateaus
from optim_core.engine.seeding import batch_order
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem
from optim_core.tasks.dropout import STEP, set_rate, set_step
from optim_core.transforms.base import State, Transform
from optim_core.transforms.groups import LAYER_RATES, groups_of
from optim_core.transforms.registry import build_transform

Weights = dict[str, Tensor]


class _Slice:
    """The part of the pack that one optimizer updates."""

    def __init__(self, span: slice, transform: Transform, table: HyperTable) -> None:
        self.span, self.transform, self.table = span, transform, table
        self.memory: State = {}

    def cut(self, tensors: Weights) -> Weights:
        """Views of this part's trials."""
        return {name: p.detach()[self.span] for name, p in tensors.items()}

    def update(self, weights: Weights, grads: Weights, step: int, factor: Tensor | None) -> None:
        """``weights`` of the whole pack change in place; ``grads`` are this part's."""
        self.transform.update_(self.cut(weights), grads, self.memory, self.table.at(step, factor), step + 1)

    def answer(self, weights: Weights) -> Weights:
        """The weights of this part's trials that count."""
        return self.transform.answer(self.cut(weights), self.memory, self.table.at(0))


class BatchedRunner:
    """See ``runner.Runner``."""

    def __init__(self, problem: Problem, trials: list[TrialParams], horizon: int) -> None:
        order = sorted(range(len(trials)), key=lambda i: (trials[i].configuration.optimizer, i))
        self.trials = [trials[i] for i in order]
        self._order_of_rows = torch.tensor(order)
        self._back = self._order_of_rows.argsort().to(problem.device)
        self.problem = problem
        models = [problem.make_model(trial.seed) for trial in self.trials]
        self.skeleton = models[0]
        stacked, buffers = stack_module_state(models)  # type: ignore[arg-type]
        self.parameters: Weights = {name: p for name, p in stacked.items() if p.requires_grad}
        # Frozen weights are constants of the network, as buffers are.
        self.buffers: Weights = {**buffers, **{name: p for name, p in stacked.items() if not p.requires_grad}}
        self._drops = any(name.rpartition(".")[2] == STEP for name in self.buffers)
        configurations = [trial.configuration for trial in self.trials]
        self._smoothing = self._numbers_of("label_smoothing", problem.spec.training.label_smoothing)
        if used(configurations, "dropout"):
            # What a trial does not set stays as the model has it.
            rates = [c.techniques.get("dropout", problem.dropout) for c in configurations]
            set_rate(self.buffers, torch.tensor(rates, dtype=torch.float64, device=problem.device))
        self._slices = self._make_slices(horizon)
        self._plateaus = Plateaus(configurations, problem.device)
        seeds = sorted({trial.seed for trial in self.trials})
        self._orders = [batch_order(problem, seed, horizon) for seed in seeds]
        self._order_of = torch.tensor([seeds.index(trial.seed) for trial in self.trials])
        self._shared = None if len(seeds) == 1 else 0
        smoothed = None if self._smoothing is None else 0
        self._losses = torch.vmap(self._loss, in_dims=(0, 0, self._shared, self._shared, smoothed))

    def _numbers_of(self, technique: str, default: float) -> Tensor | None:
        """(K,) values of a technique, or None when no trial uses it."""
        values = [trial.configuration.techniques.get(technique) for trial in self.trials]
        if all(value is None for value in values):
            return None
        chosen = [default if value is None else value for value in values]
        return torch.tensor(chosen, dtype=self.problem.dtype, device=self.problem.device)

    def _make_slices(self, horizon: int) -> list[_Slice]:
        names = [trial.configuration.optimizer for trial in self.trials]
        slices, first = [], 0
        while first < len(names):
            last = first + names[first:].count(names[first])
            span = slice(first, last)
            configurations = [t.configuration for t in self.trials[span]]
            rates = [name for name in LAYER_RATES if used(configurations, name)]
            groups = groups_of(self.skeleton, rates)
            seeds = [t.seed for t in self.trials[span]]
            table = hyper_table(configurations, seeds, horizon, groups, self.problem.device)
            layout = layout_of(self.skeleton, groups, batched=True)
            transform = build_transform(names[first], layout, transform_techniques(configurations))
            part = _Slice(span, transform, table)
            part.memory = transform.init(part.cut(self.parameters), table.at(0))
            slices.append(part)
            first = last
        return slices

    def _loss(self, weights: Weights, buffers: Weights, x: Tensor, y: Tensor, smoothing: Tensor | None) -> Tensor:
        return self.problem.loss(functional_call(self.skeleton, (weights, buffers), (x,)), y, smoothing)

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
        losses = self._losses(self.parameters, self.buffers, x, y, self._smoothing)
        grads = _gradients(losses, self.parameters)
        factor = self._plateaus.factor
        for part in self._slices:
            own, scale = part.cut(grads), None if factor is None else factor[part.span]
            if part.transform.perturb is not None:
                own = self._gradients_elsewhere(part, own, x, y, step, scale)
            with torch.no_grad():
                part.update(self.parameters, own, step, scale)
        return losses.detach()

    def _gradients_elsewhere(
        self, part: _Slice, grads: Weights, x: Tensor, y: Tensor, step: int, factor: Tensor | None
    ) -> Weights:
        """The gradients at the point that the part's method asks for, on the same mini-batch."""
        assert part.transform.perturb is not None
        with torch.no_grad():
            moved = part.transform.perturb(part.cut(self.parameters), grads, part.table.at(step, factor))
        weights = {name: p.requires_grad_() for name, p in moved.items()}
        batch = (x, y) if self._shared is None else (x[part.span], y[part.span])
        smoothing = None if self._smoothing is None else self._smoothing[part.span]
        return _gradients(self._losses(weights, part.cut(self.buffers), *batch, smoothing), weights)

    def observe(self, losses: Tensor) -> None:
        self._plateaus.observe(losses[self._order_of_rows])

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        weights, buffers = self._answer(), self.buffers
        if norms_of(self.skeleton) and any(part.transform.answers_elsewhere for part in self._slices):
            buffers = self._measured(weights)
        self.skeleton.eval()
        return self._forward(weights, buffers, x)[self._back]

    def _forward(self, weights: Weights, buffers: Weights, x: Tensor) -> Tensor:
        def forward(own: Weights, state: Weights) -> Tensor:
            return functional_call(self.skeleton, (own, state), (x,))

        return torch.vmap(forward)(weights, buffers)

    def _answer(self) -> Weights:
        """The weights that count, of all trials in the order of the slices."""
        if not any(part.transform.answers_elsewhere for part in self._slices):
            return {name: p.detach() for name, p in self.parameters.items()}
        parts = [part.answer(self.parameters) for part in self._slices]
        return {name: torch.cat([part[name] for part in parts]) for name in self.parameters}

    def _measured(self, weights: Weights) -> Weights:
        """Buffers with batch-norm statistics measured at ``weights`` for the trials whose answer lies elsewhere."""
        fresh = {name: b.clone() for name, b in self.buffers.items()}
        with measure(self.skeleton):
            self._forward(weights, fresh, self.problem.train.x[:MEASURED_ROWS])
        for part in self._slices:
            if not part.transform.answers_elsewhere:
                for name, b in fresh.items():
                    b[part.span] = self.buffers[name][part.span]
        return fresh

    def state(self) -> dict[str, Any]:
        return {
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "buffers": dict(self.buffers),
            "memory": [part.memory for part in self._slices],
            "plateau": self._plateaus.state,
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        for mine, stored in ((self.parameters, state["parameters"]), (self.buffers, state["buffers"])):
            for name, tensor in mine.items():
                tensor.copy_(stored[name])
        for part, memory in zip(self._slices, state["memory"], strict=True):
            part.memory = memory
        self._plateaus.state = state["plateau"]

    def weights(self) -> dict[str, Tensor]:
        frozen = {name: self.buffers[name] for name, _ in self.skeleton.named_parameters() if name in self.buffers}
        return {name: p[self._back] for name, p in {**self._answer(), **frozen}.items()}


def _gradients(losses: Tensor, weights: Weights) -> Weights:
    return dict(zip(weights, torch.autograd.grad(losses.sum(), list(weights.values())), strict=True))
