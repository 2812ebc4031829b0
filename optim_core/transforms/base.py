"""The contract of an optimizer: a pair of pure functions. All memory is in the state that is passed back.

Shapes: without a trial axis, hyperparameters are floats and tensors have the weight's shape. With one, every
hyperparameter may be a (K,) float64 tensor and every tensor has a leading axis of K trials. One formula serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Params = dict[str, Tensor]
State = dict[str, Params]
Scalar = float | bool | Tensor
Hyper = Mapping[str, Scalar]
OwnState = dict[str, Tensor]

# (hyperparameters, step counted from 1) → every number that is the same for all weights of a trial: floats or (K,) float64.
Numbers = Callable[[Hyper, int], dict[str, Scalar]]
# One weight: (parameter, gradient, its own state, those numbers ready to broadcast) → (parameter, its new state).
Rule = Callable[[Tensor, Tensor, OwnState, Mapping[str, Scalar]], tuple[Tensor, OwnState]]


class Transform(NamedTuple):
    """``init(params) → state``; ``update(params, grads, state, hyper, t) → (params, state)``; ``t`` counts from 1.

    ``hyper["lr"]`` is the learning rate of this step, the schedule's multiplier included. Nothing that is passed in is
    changed. A state entry need not have a weight's shape: a method with one number per trial starts it as a scalar (``init``
    does not know whether there is a trial axis) and holds (K,) from its first update on.
    """

    init: Callable[[Params], State]
    update: Callable[[Params, Params, State, Hyper, int], tuple[Params, State]]


def per_trial(value: Scalar, like: Tensor) -> Scalar:
    """A float as it is; a (K,) tensor as (K, 1, …, 1) in ``like``'s dtype, so that it broadcasts against (K, …)."""
    if isinstance(value, Tensor):
        value = value.to(like.dtype)
        return value.view(-1, *[1] * (like.ndim - 1)) if value.ndim == 1 else value
    return value


def sqrt(value: Scalar) -> float | Tensor:
    """Square root of a float or a tensor."""
    return value.sqrt() if isinstance(value, Tensor) else float(value) ** 0.5


def always(name: str) -> bool:
    """The rule "decay every weight", for use outside a model."""
    del name
    return True


def elementwise(
    state_names: tuple[str, ...], numbers: Numbers, rule: Rule, decays: Callable[[str], bool] = always
) -> Transform:
    """Lift a rule for one weight to a whole model. ``decays(name)`` says which weights feel ``weight_decay``.

    Numbers are worked out once per step, not once per weight: small networks spend their time on calls, not arithmetic.
    """

    def init(params: Params) -> State:
        return {key: {name: torch.zeros_like(p) for name, p in params.items()} for key in state_names}

    def update(params: Params, grads: Params, state: State, hyper: Hyper, t: int) -> tuple[Params, State]:
        shared: dict[bool, dict[str, Scalar]] = {}
        shaped: dict[tuple[bool, int, torch.dtype], dict[str, Scalar]] = {}
        new_params: Params = {}
        new_state: State = {key: {} for key in state_names}
        for name, p in params.items():
            decaying = decays(name)
            if decaying not in shared:
                shared[decaying] = numbers(hyper if decaying else {**hyper, "weight_decay": 0.0}, t)
            kind = (decaying, p.ndim, p.dtype)
            if kind not in shaped:
                shaped[kind] = {key: per_trial(value, p) for key, value in shared[decaying].items()}
            own = {key: state[key][name] for key in state_names}
            new_params[name], own = rule(p, grads[name], own, shaped[kind])
            for key in state_names:
                new_state[key][name] = own[key]
        return new_params, new_state

    return Transform(init, update)
