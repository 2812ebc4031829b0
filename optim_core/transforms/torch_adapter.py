"""Any optimizer of the catalogue as an ordinary ``torch.optim.Optimizer``, and any schedule as an lr scheduler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from optim_core.minimizers.torch_face import MinimizerOptimizer
from optim_core.schedules.shapes import multipliers
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, Role
from optim_core.spec.problem import unknown_name
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.spec.techniques import complete_techniques
from optim_core.transforms.groups import LAYER_RATES, groups_of
from optim_core.transforms.plateau_scheduler import PlateauScheduler
from optim_core.transforms.roles import roles_of
from optim_core.transforms.techniques import NEUTRAL
from optim_core.transforms.torch_native import native
from optim_core.transforms.transform_optimizer import TransformOptimizer

NamedParameters = Iterable[tuple[str, nn.Parameter]]
# Role, whether it decays, the multiple of the learning rate, the weight.
_Row = tuple[Role, bool, float, nn.Parameter]


def parameter_groups(named: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """Param groups by role and by whether weight decay acts: on weights with two or more axes, not on biases and norms.

    Without a model, a weight with two axes or more is a matrix, else a vector.
    """
    rows: list[_Row] = [
        ("matrix" if p.ndim >= 2 else "vector", p.ndim >= 2, 1.0, p) for _, p in named if p.requires_grad
    ]
    return _collect(rows, weight_decay, 1.0)


def model_groups(
    model: nn.Module, weight_decay: float, lr: float, techniques: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The same from a model: roles by ``roles.py``, and learning rates by layer where ``techniques`` ask for it."""
    roles, groups = roles_of(model), groups_of(model, list(techniques))
    rows: list[_Row] = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            row = groups.rows[groups.index[name]]
            rows.append((roles[name], row.decays, float(row.rate(techniques)), p))
    return _collect(rows, weight_decay, lr)


def _collect(rows: list[_Row], weight_decay: float, lr: float) -> list[dict[str, Any]]:
    groups: dict[tuple[Role, bool, float], list[nn.Parameter]] = {}
    for role, decays, factor, p in rows:
        groups.setdefault((role, decays, factor), []).append(p)
    return [
        {"params": params, "role": role, "weight_decay": weight_decay if decays else 0.0}
        | ({} if factor == 1 else {"lr": lr * factor, "base_lr": lr * factor})
        for (role, decays, factor), params in groups.items()
    ]


def build_optimizer(
    name: str,
    model_or_named_parameters: nn.Module | NamedParameters,
    *,
    techniques: Mapping[str, float] | None = None,
    **hyperparameters: float | bool,
) -> torch.optim.Optimizer:
    """An optimizer with the catalogue's defaults, overridden by ``hyperparameters``.

    ``techniques``: those of the catalogue that act on gradients, weights, their average or the rate of a layer; ``swa`` is
    here the step after which averaging starts.
    Weights are grouped by role (``roles.py``); without a model only the number of axes is known. Where torch.optim's class
    for the same method is the fastest, it is returned (``torch_native.py``). Methods that answer elsewhere (schedule-free,
    lookahead) have ``optimizer.eval()`` and ``optimizer.train()``; SAM and the minimizers need ``step(closure)``. Raises
    SpecError for an unknown optimizer or hyperparameter (never dropped silently), for a value that no run can use, for
    parameters without names, and when nothing is trainable.
    """
    if name not in OPTIMIZERS:
        raise SpecError(unknown_name("optimizer", name, OPTIMIZERS), code="unknown_optimizer")
    known = OPTIMIZERS[name].defaults()
    for key in hyperparameters:
        if key not in known:
            raise SpecError(f"{name}: {unknown_name('hyperparameter', key, known)}", code="unknown_field")
    values = {**known, **hyperparameters}
    _check_values(name, values)
    chosen = _check_techniques(name, techniques or {})
    source = model_or_named_parameters
    named = list(source.named_parameters() if isinstance(source, nn.Module) else source)
    if any(isinstance(pair, Tensor) for pair in named):
        raise SpecError("give the model or model.named_parameters(), not model.parameters()", code="wrong_type")
    decay = float(values["weight_decay"])
    if isinstance(source, nn.Module):
        groups = model_groups(source, decay, float(values.get("lr", 1.0)), chosen)
    elif set(LAYER_RATES) & set(chosen):
        raise SpecError("learning rates of layers need the model, not its parameters", code="wrong_type")
    else:
        groups = parameter_groups(named, decay)
    if not groups:
        raise SpecError("the model has no trainable parameter", code="nothing_to_train")
    if OPTIMIZERS[name].kind != "gradient":
        return MinimizerOptimizer(groups, name, values)
    inner = {key: value for key, value in chosen.items() if key in NEUTRAL}
    sparse = isinstance(source, nn.Module) and any(getattr(module, "sparse", False) for module in source.modules())
    found = None if inner else native(name, groups, values, sparse)
    return found or TransformOptimizer(groups, name, {**values, **inner})


def _check_techniques(name: str, techniques: Mapping[str, float]) -> dict[str, float]:
    steps = {key: float(value) for key, value in techniques.items() if key == "swa" and value > 0}
    rest = complete_techniques({key: value for key, value in techniques.items() if key != "swa"})
    for key in rest:
        if key not in NEUTRAL and key not in LAYER_RATES:
            raise SpecError(f"technique {key} is not part of an optimizer", code="option_not_applicable")
    if (steps or rest) and OPTIMIZERS[name].kind != "gradient":
        raise SpecError(f"{name} takes no techniques", code="option_not_applicable")
    if set(LAYER_RATES) & set(rest) and OPTIMIZERS[name].fits == "no_restarts":
        raise SpecError(f"{name} has one learning rate for all layers", code="option_not_applicable")
    return {**rest, **steps}


def _check_values(name: str, values: Mapping[str, float | bool]) -> None:
    """Refuse what torch's own optimizers refuse: a step would divide by zero or walk uphill."""
    for hyper in OPTIMIZERS[name].hyperparameters:
        value = values[hyper.name]
        if not isinstance(value, int | float):
            raise SpecError(f"{name}: {hyper.name} must be a number", code="wrong_type")
        if not (math.isfinite(value) and value >= 0 and (hyper.sample_as != "one_minus" or value < 1)):
            allowed = "in [0, 1)" if hyper.sample_as == "one_minus" else "finite and not negative"
            raise SpecError(f"{name}: {hyper.name} must be {allowed}, not {value!r}", code="number_out_of_range")
        if hyper.name in _COUNTS and (value < 1 or value != int(value)):
            raise SpecError(f"{name}: {hyper.name} must be a whole number, not {value!r}", code="number_out_of_range")


_COUNTS = {"lookahead_k", "precondition_frequency"}


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: Mapping[str, str | float], total_steps: int
) -> LRScheduler:
    """A scheduler to be stepped once per optimizer step; after ``total_steps`` it stays at the last value.

    ``reduce_on_plateau`` is besides stepped with the validation loss after each evaluation: ``step(loss)``.
    """
    complete = complete_schedule(schedule)
    table = multipliers(complete, total_steps).tolist()
    if SCHEDULES[str(complete["name"])].stateful:
        return PlateauScheduler(optimizer, table, {key: float(v) for key, v in complete.items() if key != "name"})
    return LambdaLR(optimizer, lambda step: table[min(step, total_steps - 1)])
