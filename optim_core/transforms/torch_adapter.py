"""Any optimizer of the catalogue as an ordinary ``torch.optim.Optimizer``, and any schedule as an lr scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from optim_core.schedules.shapes import multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import unknown_name
from optim_core.transforms.registry import build_transform

NamedParameters = Iterable[tuple[str, nn.Parameter]]


class TransformOptimizer(torch.optim.Optimizer):
    """A catalogue optimizer behind torch's interface: param_groups, state_dict, lr schedulers, closures, GradScaler.

    A weight whose gradient is None is left alone, as torch's own optimizers do.
    """

    def __init__(self, params: Any, name: str, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._name = name
        self._transform = build_transform(name)

    def __getstate__(self) -> dict[str, Any]:
        # torch lists by hand what is copied and pickled; functions cannot be, so the name stands for them.
        return {**super().__getstate__(), "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._transform = build_transform(self._name)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            hyper = {key: value for key, value in group.items() if key not in {"params", "initial_lr"}}
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, hyper)
        return loss

    def _step_one(self, p: Tensor, hyper: dict[str, Any]) -> None:
        own = self.state[p]
        if not own:
            own["step"] = 0
            own.update({key: tensors["p"] for key, tensors in self._transform.init({"p": p}).items()})
        own["step"] += 1
        memory = {key: {"p": value} for key, value in own.items() if key != "step"}
        new, memory = self._transform.update({"p": p}, {"p": p.grad}, memory, hyper, own["step"])  # type: ignore[dict-item]
        p.copy_(new["p"])
        for key, tensors in memory.items():
            own[key] = tensors["p"]


def parameter_groups(named: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with two or more axes decay; biases and gains of norms do not. Empty groups are left out."""
    matrices, vectors = [], []
    for _, p in named:
        if p.requires_grad:
            (matrices if p.ndim >= 2 else vectors).append(p)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(
    name: str, model_or_named_parameters: nn.Module | NamedParameters, **hyperparameters: float | bool
) -> torch.optim.Optimizer:
    """An optimizer with the catalogue's defaults, overridden by ``hyperparameters``.

    Raises SpecError for an unknown optimizer or hyperparameter (never dropped silently), for a value that no run can
    use, for parameters without names, and when nothing is trainable.
    """
    if name not in OPTIMIZERS:
        raise SpecError(unknown_name("optimizer", name, OPTIMIZERS), code="unknown_optimizer")
    known = OPTIMIZERS[name].defaults()
    for key in hyperparameters:
        if key not in known:
            raise SpecError(f"{name}: {unknown_name('hyperparameter', key, known)}", code="unknown_field")
    values = {**known, **hyperparameters}
    _check_values(name, values)
    source = model_or_named_parameters
    named = list(source.named_parameters() if isinstance(source, nn.Module) else source)
    if any(isinstance(pair, Tensor) for pair in named):
        raise SpecError("give the model or model.named_parameters(), not model.parameters()", code="wrong_type")
    groups = parameter_groups(named, float(values["weight_decay"]))
    if not groups:
        raise SpecError("the model has no trainable parameter", code="nothing_to_train")
    return TransformOptimizer(groups, name, values)


def _check_values(name: str, values: Mapping[str, float | bool]) -> None:
    """Refuse what torch's own optimizers refuse: a step would divide by zero or walk uphill."""
    for hyper in OPTIMIZERS[name].hyperparameters:
        value = values[hyper.name]
        if not isinstance(value, int | float):
            raise SpecError(f"{name}: {hyper.name} must be a number", code="wrong_type")
        if not (math.isfinite(value) and value >= 0 and (hyper.sample_as != "one_minus" or value < 1)):
            allowed = "in [0, 1)" if hyper.sample_as == "one_minus" else "finite and not negative"
            raise SpecError(f"{name}: {hyper.name} must be {allowed}, not {value!r}", code="number_out_of_range")


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: Mapping[str, str | float], total_steps: int
) -> LambdaLR:
    """A scheduler to be stepped once per optimizer step; after ``total_steps`` it stays at the last value."""
    table = multipliers(schedule, total_steps).tolist()
    return LambdaLR(optimizer, lambda step: table[min(step, total_steps - 1)])
