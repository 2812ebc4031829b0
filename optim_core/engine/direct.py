"""Trials of minimizers: the loss of all training rows as a function of the weights, at the price of mini-batch steps.

After t steps a trial may have cost as many sample evaluations as t gradient steps on mini-batches do: 3·t·batch_size
forward passes of a sample. One loss costs n_train of them, one loss with its gradient 3·n_train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from optim_core.engine.activations import activation_numbers
from optim_core.engine.hyper import decay_rule
from optim_core.engine.norms import MEASURED_ROWS, measure, norms_of
from optim_core.minimizers.base import Objective, Vector
from optim_core.minimizers.counted import GRADIENT_COST, Counted
from optim_core.minimizers.pausable import Pausable
from optim_core.minimizers.registry import minimize
from optim_core.nn.dropout import set_step
from optim_core.spec.keys import derive_seed
from optim_core.spec.trial import TrialParams
from optim_core.tasks.build import Problem

# Activations of one evaluation (numbers): rows and points are taken in blocks of about this size.
LARGEST_BLOCK = 2**26
# Points evaluated together. More would hardly be faster, as each already has all training rows, but coarser to pay for.
POINTS = 8


class FullBatch:
    """The training objective of one trial over float64 vectors (n,) of its weights, deterministic.

    The mean loss over all training rows in training mode, dropout frozen at step 0, plus weight_decay/2·‖p‖² over the
    weights that decay. Rows that do not fit into memory at once are taken in blocks (batch norm then sees blocks).
    """

    def __init__(self, problem: Problem, trial: TrialParams) -> None:
        self.problem, self.model = problem, problem.make_model(trial.seed)
        set_step(dict(self.model.named_buffers()), 0)
        weights = dict(self.model.named_parameters())
        self._shapes = {name: p.shape for name, p in weights.items()}
        decays, factor = decay_rule(self.model), float(trial.configuration.hyperparameters.get("weight_decay", 0.0))
        self._decay = np.concatenate([np.full(p.numel(), factor * decays(name)) for name, p in weights.items()])
        self.start: Vector = torch.cat([p.detach().flatten() for p in weights.values()]).cpu().double().numpy()
        rows, per_row = len(problem.train.y), max(1, activation_numbers(problem) // problem.batch_size)
        self._blocks = math.ceil(rows * per_row / LARGEST_BLOCK)
        # How many points ``values`` takes at once.
        self.points = min(POINTS, max(1, LARGEST_BLOCK // (rows * per_row))) if problem.batchable[0] else 1
        self._norms = norms_of(self.model)
        # The point whose statistics the norms hold.
        self._normed: Vector | None = None

    def value(self, x: Vector) -> float:
        """The objective at ``x`` (n,)."""
        with torch.no_grad():
            return sum(float(loss) for loss in self._losses(self._tensor(x))) + self.penalty(x)

    def value_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        """The objective and its gradient (n,) at ``x`` (n,)."""
        vector = self._tensor(x).requires_grad_()
        value, gradient = self.penalty(x), self._decay * x
        with torch.enable_grad():
            for loss in self._losses(vector):
                (found,) = torch.autograd.grad(loss, vector)
                value, gradient = value + float(loss.detach()), gradient + found.cpu().double().numpy()
        return value, gradient

    def values(self, points: Vector) -> Vector:
        """The objectives (P,) of ``points`` (P, n); P at most ``self.points``."""
        if len(points) == 1:
            return np.array([self.value(points[0])])
        self.model.train()
        # Batch norm writes into its buffers: each point needs its own.
        buffers = {name: b.expand(len(points), *b.shape).clone() for name, b in self.model.named_buffers()}
        x, y, w = self.problem.train

        def loss(vector: Tensor, own: dict[str, Tensor]) -> Tensor:
            return self.problem.loss(functional_call(self.model, (self.parameters(vector), own), (x,)), y, None, w)

        with torch.no_grad():
            found = torch.vmap(loss)(self._tensor(points), buffers).cpu().double().numpy()
        return found + np.array([self.penalty(point) for point in points])

    def penalty(self, x: Vector) -> float:
        """The part of the objective at ``x`` (n,) that is weight decay."""
        return float(0.5 * (self._decay * x * x).sum())

    @torch.no_grad()
    def outputs(self, point: Vector, x: Tensor) -> Tensor:
        """The network with the weights ``point`` (n,) in evaluation mode: rows ``x`` (n, …) → (n, outputs)."""
        weights = self.parameters(point)
        if self._norms and self._normed is not point:
            for norm in self._norms:
                # Nothing may be left of the points that were tried, whose statistics can be infinite.
                norm.reset_running_stats()
            with measure(self.model):
                functional_call(self.model, weights, (self.problem.train.x[:MEASURED_ROWS],))
            self._normed = point
        self.model.eval()
        return functional_call(self.model, weights, (x,))

    def parameters(self, vector: Tensor | Vector) -> dict[str, Tensor]:
        """(n,) → weights by name, in the model's precision."""
        if not isinstance(vector, Tensor):
            vector = self._tensor(vector)
        parts = vector.split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _tensor(self, x: Vector) -> Tensor:
        return torch.tensor(x, dtype=self.problem.dtype, device=self.problem.device)

    def _losses(self, vector: Tensor) -> Iterator[Tensor]:
        """Losses of blocks of rows, which add up to the mean over all rows."""
        self.model.train()
        # Batch norm writes its running statistics.
        self._normed = None
        train, mass = self.problem.train, self.problem.mass
        weights = [None] * self._blocks if train.w is None else train.w.tensor_split(self._blocks)
        blocks = zip(train.x.tensor_split(self._blocks), train.y.tensor_split(self._blocks), weights, strict=True)
        for rows, goal, w in blocks:
            outputs = functional_call(self.model, self.parameters(vector), (rows,))
            yield self.problem.loss(outputs, goal, None, w) * (mass(goal, w) / mass(train.y, train.w))


class _Run:
    """One trial."""

    def __init__(self, problem: Problem, trial: TrialParams) -> None:
        configuration, seed = trial.configuration, derive_seed("minimizer", trial.seed)
        task = FullBatch(problem, trial)
        self.task = task
        self.seen = Counted(task.start, task.value, task.value_and_gradient, task.values, block=task.points)

        def method(objective: Objective) -> None:
            minimize(configuration.optimizer, objective, configuration.hyperparameters, seed)

        self._method = Pausable(method, self.seen)

    def go_to(self, step: int) -> float:
        """Use what ``step`` steps allow; the best full-batch loss so far."""
        problem = self.task.problem
        self._method.go_on(GRADIENT_COST * step * problem.batch_size // len(problem.train.y))
        if self.seen.best_value == math.inf:
            return self._first_loss
        return self.seen.best_value - self.task.penalty(self.seen.best_point)

    @cached_property
    def _first_loss(self) -> float:
        # Free of charge, as every evaluation of a curve is: until the first loss can be paid there is nothing else to say.
        return self.task.value(self.task.start) - self.task.penalty(self.task.start)


class DirectRunner:
    """See ``runner.Runner``. Batch losses are the best loss over all training rows so far; outputs and weights are those
    of the best point so far. The schedule and the clipping of a configuration do not apply.
    """

    def __init__(self, problem: Problem, trials: list[TrialParams]) -> None:
        self.problem, self.trials = problem, trials
        self._runs = [_Run(problem, trial) for trial in trials]
        self._step = 0

    def advance(self, first: int, last: int) -> Tensor:
        losses = [[run.go_to(step + 1) for step in range(first, last)] for run in self._runs]
        self._step = last
        return torch.tensor(losses, dtype=self.problem.dtype, device=self.problem.device)

    def outputs(self, batch: Any) -> Any:
        return torch.stack([run.task.outputs(run.seen.best_point, batch) for run in self._runs])

    def observe(self, losses: Tensor) -> None:
        del losses

    def state(self) -> list[dict[str, Any]]:
        # SciPy's methods cannot be stored half-way; they repeat themselves exactly instead.
        return [{"step": self._step} for _ in self.trials]

    def restore(self, states: list[dict[str, Any]]) -> None:
        if self._step > 0:
            self._runs = [_Run(self.problem, trial) for trial in self.trials]
        self._step = states[0]["step"]
        for run in self._runs:
            run.go_to(self._step)

    def weights(self) -> dict[str, Tensor]:
        found = [run.task.parameters(run.seen.best_point) for run in self._runs]
        return {name: torch.stack([weights[name] for weights in found]) for name in found[0]}
