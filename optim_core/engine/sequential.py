"""The reference engine: each trial alone, eager autograd on a plain module, hyperparameters as Python floats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from optim_core.engine.hyper import hyper_row, layout_of, transform_techniques, used
from optim_core.engine.loss_module import LossModule
from optim_core.engine.norms import MEASURED_ROWS, measure, norms_of
from optim_core.engine.plateau import Plateaus
from optim_core.engine.seeding import batch_order
from optim_core.engine.updates.method import Method
from optim_core.nn.dropout import set_rate, set_step
from optim_core.spec.trial import TrialParams
from optim_core.tasks.task import Task
from optim_core.transforms.groups import LAYER_RATES, groups_of
from optim_core.transforms.registry import build_transform

Weights = dict[str, Tensor]


class Single:
    """One trial."""

    def __init__(self, problem: Task, trial: TrialParams, horizon: int) -> None:
        configuration = trial.configuration
        self.problem = problem
        self.model = problem.make_model(trial.seed)
        self.parameters: Weights = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        groups = groups_of(self.model, list(configuration.techniques))
        inner = transform_techniques([configuration])
        rates = [name for name in LAYER_RATES if used([configuration], name)]
        transform = build_transform(configuration.optimizer, layout_of(self.model, groups, batched=False), inner)
        numbers = hyper_row(configuration, trial.seed, horizon, groups, [*inner, *rates])
        self.method = Method(transform, self.weights(), numbers)
        self.plateau = Plateaus([configuration], torch.device("cpu"))
        self.order = batch_order(problem, trial.seed, horizon)
        self.smoothing = configuration.techniques.get("label_smoothing")
        self.losses = LossModule(problem, self.model, self.smoothing)
        if "dropout" in configuration.techniques:
            set_rate(dict(self.model.named_buffers()), configuration.techniques["dropout"])

    def step(self, step: int) -> Tensor:
        batch = self.batch(step)
        loss, grads = self.gradients(self.parameters, batch)
        self.update(step, batch, grads)
        return loss.detach()

    def batch(self, step: int) -> Any:
        """The step's rows and targets; the model is made ready for them."""
        set_step(dict(self.model.named_buffers()), step)
        self.model.train()
        return self.problem.batch(self.order.rows(step))

    def update(self, step: int, batch: Any, grads: Weights) -> None:
        """What the optimizer makes of the gradients, which it may write into."""
        factor = None if self.plateau.factor is None else float(self.plateau.factor)
        if self.method.transform.perturb is not None:
            with torch.no_grad():
                moved = self.method.moved(grads, step, factor)
            _, grads = self.gradients({name: p.requires_grad_() for name, p in moved.items()}, batch)
        with torch.no_grad():
            self.method.update(grads, step, factor)

    def weights(self) -> Weights:
        """The weights that are trained."""
        return {name: p.detach() for name, p in self.parameters.items()}

    def outputs(self, x: Tensor) -> Tensor:
        """Rows ``x`` through the network with the weights that count, in evaluation mode."""
        weights = self.method.answer()
        if self.method.transform.answers_elsewhere and norms_of(self.model):
            weights |= {name: b.clone() for name, b in self.model.named_buffers()}
            with measure(self.model):
                rows = torch.arange(min(MEASURED_ROWS, self.problem.rows["train"]))
                self.losses.at(weights, self.problem.batch(rows))
        self.model.eval()
        return functional_call(self.model, weights, (x,))

    def gradients(self, weights: Weights, batch: Any) -> tuple[Tensor, Weights]:
        """Loss and gradients at ``weights`` on a batch."""
        own = weights is self.parameters
        loss = self.problem.loss_on(self.model, batch, self.smoothing) if own else self.losses.at(weights, batch)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        return loss, dict(zip(weights, found, strict=True))


class SequentialRunner:
    """See ``runner.Runner``."""

    def __init__(self, problem: Task, trials: list[TrialParams], horizon: int) -> None:
        self.singles = [Single(problem, trial, horizon) for trial in trials]

    def advance(self, first: int, last: int) -> Tensor:
        return torch.stack([torch.stack([one.step(t) for t in range(first, last)]) for one in self.singles])

    @torch.no_grad()
    def outputs(self, batch: Any) -> Any:
        return torch.stack([one.outputs(batch) for one in self.singles])

    def observe(self, losses: Tensor) -> None:
        for one, loss in zip(self.singles, losses.cpu(), strict=True):
            one.plateau.observe(loss[None])

    def state(self) -> list[dict[str, Any]]:
        return [
            {"model": dict(one.model.state_dict()), "memory": one.method.memory, "plateau": one.plateau.state}
            for one in self.singles
        ]

    def restore(self, states: list[dict[str, Any]]) -> None:
        for one, stored in zip(self.singles, states, strict=True):
            one.model.load_state_dict(stored["model"])
            one.method.memory, one.plateau.state = stored["memory"], stored["plateau"]

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        answers = [{**dict(one.model.named_parameters()), **one.method.answer()} for one in self.singles]
        return {name: torch.stack([answer[name] for answer in answers]) for name in answers[0]}
