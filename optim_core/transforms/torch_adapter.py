"""Any optimizer of the catalogue as an ordinary ``torch.optim.Optimizer``, and any schedule as an lr scheduler."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from optim_core.minimizers.named_optimizer import NamedOptimizer, weights_in
from optim_core.minimizers.torch_face import MinimizerOptimizer
from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, Role
from optim_core.spec.techniques import check_one_average, complete_techniques, technique_number
from optim_core.transforms.doubt import doubtful
from optim_core.transforms.eight_bit import beside_moments
from optim_core.transforms.groups import LAYER_RATES
from optim_core.transforms.hyperparameters import Values, complete_values, group_values
from optim_core.transforms.parameter_groups import NamedParameters, model_groups, parameter_groups
from optim_core.transforms.registry import build_transform
from optim_core.transforms.roles import Network, look_at
from optim_core.transforms.saved_state import STATE_BITS
from optim_core.transforms.schedulers import build_scheduler
from optim_core.transforms.techniques import NEUTRAL
from optim_core.transforms.transform_optimizer import TransformOptimizer

__all__ = ["build_optimizer", "build_scheduler"]

# A model, its parameters with or without names, or param groups as torch takes them.
Source = nn.Module | NamedParameters | Iterable[Tensor] | Iterable[dict[str, Any]]
Groups = list[dict[str, Any]]
_WANTED = "give the model, model.parameters(), model.named_parameters() or a list of param groups"


def build_optimizer(
    name: str,
    model_or_parameters: Source,
    *,
    techniques: Mapping[str, float] | None = None,
    maximize: bool = False,
    example_input: Any = None,
    roles: Mapping[str, Role] | None = None,
    state_bits: int = 32,
    **hyperparameters: Any,
) -> NamedOptimizer:
    """The optimizer ``name`` for a model, with the catalogue's defaults, overridden by ``hyperparameters``.

        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 3))
        >>> optimizer = optim_core.build_optimizer("adamw", model, lr=3e-3, weight_decay=0.1)
        >>> [(group["role"], group["weight_decay"]) for group in optimizer.param_groups]
        [('matrix', 0.1), ('vector', 0.0), ('norm', 0.0), ('head', 0.1)]
        >>> model(torch.ones(4, 8)).square().sum().backward()
        >>> optimizer.step()

    Names: ``list_optimizers()``; hyperparameters with their defaults: ``find_optimizer(name).defaults()``.

    ``model_or_parameters``: a model, ``model.named_parameters()``, ``model.parameters()``, or a list of param groups.
    Weights are grouped by role and by whether weight decay acts on them. Roles are read from the model, better with an
    ``example_input`` (a tensor, a tuple of positional or a mapping of keyword arguments), and as ``roles`` (name → role)
    says; without a model only the number of axes is known. See ``roles.py``. Where neither settles a role that the method
    or a technique asks for, a UserWarning says what was guessed. Param groups stay as they are given: a
    group's own values come first, and its weight decay, given or the default, acts on all its weights. Frozen weights are
    trained once they are unfrozen.
    ``hyperparameters``: by the catalogue's names or torch's ``betas``; numbers, or tensors and NumPy values of one number.
    ``maximize``: go uphill. ``techniques``: those of the catalogue that act on gradients, weights, their average or the
    rate of a layer; ``swa`` is here the step after which averaging starts. ``state_bits``: 8 keeps the moments of weights
    with 4096 numbers and more in eight bits (``eight_bit.py``; of methods that keep moments alone, as Adam's family does), a
    quarter of the memory. A 16-bit weight is rounded once a step: a change below half its last digit is lost, as in
    torch.optim; where that matters, keep weights in float32 and compute in ``torch.autocast``.

    Every optimizer has ``.eval()`` and ``.train()``, which move the weights of methods that answer elsewhere (schedule-free,
    lookahead); what is loaded in between is kept. SAM and the minimizers need ``step(closure)``. Raises SpecError for an
    unknown optimizer, hyperparameter or name in ``roles`` (never dropped silently), for a value that no run can use, for
    complex weights where a method looks at their axes, and where there is no weight at all.
    """
    if not isinstance(maximize, bool):
        raise SpecError(f"maximize is True or False, not {maximize!r}", code="wrong_type")
    values = complete_values(name, hyperparameters)
    chosen = _check_techniques(name, techniques or {})
    if isinstance(model_or_parameters, nn.Module):
        network = look_at(model_or_parameters, example_input, roles)
        if guess := doubtful(name, network, chosen):
            warnings.warn(guess, UserWarning, stacklevel=2)
        groups = _model_groups(model_or_parameters, values, chosen, network)
    elif example_input is not None:
        raise SpecError("an example input needs the model, not its parameters", code="wrong_type")
    elif set(LAYER_RATES) & set(chosen):
        raise SpecError("learning rates of layers need the model, not its parameters", code="wrong_type")
    else:
        groups = _groups(name, model_or_parameters, values, roles)
    weights = [p for group in groups for p in _tensors(group)]
    if not weights or (OPTIMIZERS[name].kind != "gradient" and not any(p.requires_grad for p in weights)):
        raise SpecError("there is no weight to train", code="nothing_to_train")
    if OPTIMIZERS[name].kind != "gradient":
        return MinimizerOptimizer(groups, name, {**values, "maximize": maximize})
    if state_bits != 32:
        _check_eight_bits(name, state_bits, weights)
        values = {**values, STATE_BITS: state_bits}
    inner = {key: value for key, value in chosen.items() if key in NEUTRAL}
    return TransformOptimizer(groups, name, {**values, **inner, "maximize": maximize})


def _model_groups(
    model: nn.Module,
    values: Values,
    techniques: Mapping[str, float],
    network: Network,
) -> Groups:
    groups = model_groups(model, float(values["weight_decay"]), float(values.get("lr", 1.0)), techniques, network)
    return _with_names(groups, list(model.named_parameters()))


def _groups(name: str, source: Any, values: Values, roles: Mapping[str, Role] | None) -> Groups:
    """Param groups where there is no model."""
    decay = float(values["weight_decay"])
    if not isinstance(source, Iterable):
        raise SpecError(_WANTED, code="wrong_type")
    listed = [] if isinstance(source, Tensor) else list(source)
    if listed and all(isinstance(row, tuple) and len(row) == 2 for row in listed):
        return _with_names(parameter_groups(listed, decay, roles), listed)
    if roles:
        raise SpecError("roles are by name: give the model or model.named_parameters()", code="wrong_type")
    if listed and all(isinstance(row, dict) for row in listed):
        return [_as_given(name, group, values) for group in listed]
    if listed and all(isinstance(row, Tensor) for row in listed):
        counted = [(str(i), p) for i, p in enumerate(listed)]
        return [
            {**group, "params": [p for _, p in group["params"]]}
            for group in _with_names(parameter_groups(counted, decay), counted)
        ]
    if listed or isinstance(source, Tensor):
        raise SpecError(_WANTED, code="wrong_type")
    return []


def _with_names(groups: Groups, named: list[tuple[str, nn.Parameter]]) -> Groups:
    """The same with each weight's name, and its place in the order in which weights were given."""
    names = {id(p): (i, name) for i, (name, p) in enumerate(named)}
    found: Groups = []
    for group in groups:
        rows = [(*names[id(p)], p) for p in group["params"]]
        found.append({**group, "params": [(name, p) for _, name, p in rows], "places": [i for i, _, _ in rows]})
    return found


def _as_given(name: str, group: dict[str, Any], values: Values) -> dict[str, Any]:
    """A param group of a person's, its own values checked."""
    params = weights_in(group)
    # An iterator would be empty the second time; a set is refused by torch, which wants an order.
    params = [params] if isinstance(params, Tensor) else params if isinstance(params, set) else list(params)
    return {**group_values(name, {key: v for key, v in group.items() if key != "params"}, values), "params": params}


def _tensors(group: dict[str, Any]) -> list[Tensor]:
    return [row[1] if isinstance(row, tuple) else row for row in group["params"]]


def _check_eight_bits(name: str, state_bits: int, weights: list[Tensor]) -> None:
    if state_bits != 8:
        raise SpecError(f"state_bits must be 32 or 8, not {state_bits!r}", code="number_out_of_range")
    besides = beside_moments(build_transform(name), {**OPTIMIZERS[name].defaults(), "base_lr": 1.0})
    if besides or besides is None:
        kept = ", ".join(besides or ["nothing"])
        message = (
            f"{name} keeps {kept} of a matrix: eight bits are for moments of each number, as the Adam family keeps them"
        )
        raise SpecError(message, code="option_not_applicable")
    if any(p.is_complex() for p in weights):
        raise SpecError("moments of complex weights are not kept in eight bits", code="complex_weights")


def _first_step(value: object) -> float:
    """``swa``: the step after which averaging starts, 0 where it is off."""
    step = technique_number("swa", value)
    if not (step >= 0 and step == step // 1):
        message = f"swa is here the step after which averaging starts, a whole number from 1, or 0 (off), not {value!r}"
        raise SpecError(message, code="number_out_of_range")
    return step


def _check_techniques(name: str, techniques: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(techniques, Mapping):
        message = f'techniques are a mapping, as {{"ema": 0.99}}, not {type(techniques).__name__}'
        raise SpecError(message, code="wrong_type")
    steps = {"swa": _first_step(techniques["swa"])} if "swa" in techniques else {}
    steps = {key: value for key, value in steps.items() if value}
    rest = complete_techniques({key: value for key, value in techniques.items() if key != "swa"})
    check_one_average({**rest, **steps})
    for key in rest:
        if key not in NEUTRAL and key not in LAYER_RATES:
            raise SpecError(f"technique {key} is not part of an optimizer", code="option_not_applicable")
    if (steps or rest) and OPTIMIZERS[name].kind != "gradient":
        raise SpecError(f"{name} takes no techniques", code="option_not_applicable")
    if set(LAYER_RATES) & set(rest) and not OPTIMIZERS[name].rates_by_layer:
        raise SpecError(f"{name} has one learning rate for all layers", code="option_not_applicable")
    return {**rest, **steps}
