"""Any minimizer as an ordinary ``torch.optim.Optimizer`` whose step takes a closure, like ``torch.optim.LBFGS``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optim_core.minimizers.base import Vector, usable
from optim_core.minimizers.counted import Counted
from optim_core.minimizers.named_optimizer import METHOD, NamedOptimizer
from optim_core.minimizers.registry import find_minimizer, minimize
from optim_core.spec.errors import SpecError
from optim_core.spec.keys import derive_seed
from optim_core.spec.optimizers.limits import check_size

MAX_EVALUATIONS = 200


class _Group(dict[str, Any]):
    """A param group of a method that may have no learning rate: torch's schedulers ask for one, and are told."""

    def __missing__(self, key: str) -> Any:
        if key == "lr":
            raise SpecError(f"{self[METHOD]} has no learning rate to schedule", code="option_not_applicable")
        raise KeyError(key)


class MinimizerOptimizer(NamedOptimizer):
    """One step is one run from the present weights, after which the best point found is in the weights.

    ``defaults``: all hyperparameters of the method ``name``, ``weight_decay`` (L2 with torch's 1/2; a group may have its
    own), ``max_evaluations`` (closure calls a step, default 200) and ``seed`` (default 0; every step of a run draws its
    own numbers from it), ``maximize``. Raises SpecError for an unknown name and for more weights than the method can take.
    """

    def __init__(self, params: Any, name: str, defaults: dict[str, Any]) -> None:
        find_minimizer(name)
        own = {"weight_decay": 0.0, "maximize": False, "max_evaluations": float(MAX_EVALUATIONS), "seed": 0, "runs": 0}
        super().__init__(params, name, {**own, **defaults})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, with the refusals of the constructor."""
        super().add_param_group(param_group)
        self.param_groups[-1] = _Group(self.param_groups[-1])
        trained = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        check_size([self.method], sum(p.numel() for p in trained))
        if any(p.is_complex() for p in trained):
            raise SpecError(f"{self.method} has no meaning for complex weights", code="complex_weights")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.param_groups[:] = map(_Group, self.param_groups)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's. Raises SpecError for the state of another method."""
        self.check_method(state_dict)
        super().load_state_dict(state_dict)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Run the method; the loss of the best point as the closure gave it (without weight decay).

        ``closure``: the ordinary one (zero_grad, loss, backward, return the loss), deterministic. Raises SpecError
        without it.
        """
        if closure is None:
            message = f"{self.method} evaluates the loss several times a step: call step(closure), as for torch's LBFGS"
            raise SpecError(message, code="closure_missing")
        task = _Closure(self, closure)
        settings = self.param_groups[0]
        counted = Counted(
            task.start, task.value, task.value_and_gradient, limit=settings["max_evaluations"], gradient_cost=1
        )
        try:
            minimize(self.method, counted, settings, derive_seed("step", settings["seed"], settings["runs"]))
        finally:
            # Whatever happened, the weights are a point that was worth keeping.
            task.write(counted.best_point)
        settings["runs"] += 1
        return task.best_loss


class _Closure:
    """The closure as a function of one float64 vector (n,) of all trainable weights."""

    def __init__(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any]) -> None:
        pairs = [(p, float(g["weight_decay"])) for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
        self._weights = [p for p, _ in pairs]
        self._sign = -1.0 if optimizer.param_groups[0]["maximize"] else 1.0
        self._decay = np.concatenate([np.full(p.numel(), decay) for p, decay in pairs])
        self._closure = closure
        self.start = self._vector(self._weights)
        # The loss of the best point; of the start until something usable was seen.
        self.best_loss: Any = None
        self._best_value = math.inf

    def value(self, x: Vector) -> float:
        """The closure's loss at ``x`` (n,), plus the weight decay."""
        self.write(x)
        with torch.enable_grad():
            loss = self._closure()
        if loss is None:
            raise SpecError("the closure returned None: it has to return the loss", code="wrong_type")
        if isinstance(loss, Tensor):
            # A copy, as a closure may return the same tensor each time.
            loss = loss.detach().clone()
        value = self._sign * float(loss) + float(0.5 * (self._decay * x * x).sum())
        if self.best_loss is None or (usable(value) and value < self._best_value):
            self.best_loss, self._best_value = loss, value if usable(value) else math.inf
        return value

    def value_and_gradient(self, x: Vector) -> tuple[float, Vector]:
        """As ``value``, with the gradient (n,) that the closure left behind; zero where it left none."""
        value = self.value(x)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._weights]
        return value, self._sign * self._vector(grads) + self._decay * x

    @torch.no_grad()
    def write(self, x: Vector) -> None:
        """Put ``x`` (n,) into the weights, each in its own precision and on its own device."""
        first = 0
        for p in self._weights:
            part = torch.tensor(x[first : first + p.numel()], dtype=torch.float64)
            p.copy_(part.view(p.shape))
            first += p.numel()

    @staticmethod
    def _vector(tensors: list[Tensor]) -> Vector:
        return torch.cat([t.detach().flatten().to("cpu", torch.float64) for t in tensors]).numpy()
