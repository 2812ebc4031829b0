"""Prodigy (Mishchenko & Defazio 2024, arXiv 2306.06101): Adam that estimates its own learning rate, one per trial."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.transforms.arithmetic import add_, add_ratio_, average_squares_, sqrt_into, zeros_like
from optim_core.transforms.base import (
    TRIAL,
    Hyper,
    Hypers,
    Layout,
    Params,
    Scalar,
    State,
    Transform,
    all_alike,
    is_zero,
    largest,
    own_dot,
    own_size,
    per_trial,
    pure,
    sqrt,
    start_of_trial,
    where,
)

D0 = 1e-6


def prodigy(layout: Layout) -> Transform:
    """The authors' method with their defaults (β₃ = √β₂, no growth limit), decoupled decay.

    d is one number for all weights of a trial, so every group must have the same learning rate (the largest is taken).
    """
    method = _Prodigy(layout)
    return Transform(method.init, pure(method.update_), method.update_, shape_free=True, bundles=all_alike)


class _Prodigy:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def init(self, params: Params, hypers: Hypers) -> State:
        del hypers
        lead = self.layout.lead
        zeros = {key: {n: zeros_like(p) for n, p in params.items()} for key in ("mean", "square", "distance")}
        trial = {"d": start_of_trial(params, lead, D0), "numerator": start_of_trial(params, lead)}
        return {**zeros, "start": {n: p.clone() for n, p in params.items()}, TRIAL: trial}

    def update_(self, params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        shared = hypers[self.layout.group(next(iter(params)))]
        lr: Scalar = shared["lr"]
        for hyper in hypers:
            lr = largest(lr, hyper["lr"])
        held = state[TRIAL]["d"]
        d = held if self.layout.batched else float(held)
        step = d * lr * _correction(shared, t)
        scratch: Params = {}
        numerator, denominator = self._estimate_(params, grads, state, shared, d, step, scratch)
        new_d = self._larger(held, shared["d_coef"], numerator, denominator)
        eps = new_d * shared["eps"]
        for name, p in params.items():
            root = sqrt_into(state["square"][name], scratch[name]).add_(self._number(eps, p))
            wd = hypers[self.layout.group(name)]["weight_decay"]
            age = self.layout.age(name, t)
            own = step if age == t else d * lr * _correction(shared, age)
            if not is_zero(wd):
                p.mul_(self._number(1 - own * wd, p))
            add_ratio_(p, state["mean"][name], root, self._number(-own, p))
        for key, value in (("d", new_d), ("numerator", numerator)):
            state[TRIAL][key] = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)

    def _larger(self, held: Tensor, d_coef: Scalar, numerator: Scalar, denominator: Scalar) -> Scalar:
        """d, or the estimate where it is larger. Without any gradient so far there is nothing to estimate from."""
        if self.layout.batched:
            assert isinstance(denominator, Tensor)
            return torch.maximum(held, torch.where(denominator > 0, d_coef * numerator / denominator, held))
        d = float(held)
        return max(d, float(d_coef) * float(numerator) / float(denominator)) if denominator > 0 else d

    def _estimate_(
        self, params: Params, grads: Params, state: State, hyper: Hyper, d: Scalar, step: Scalar, scratch: Params
    ) -> tuple[Scalar, Scalar]:
        """Numerator and denominator of the estimate of d. Updates the averages in place; ``scratch`` gets memory to use."""
        lead, b1, b2 = self.layout.lead, hyper["beta1"], hyper["beta2"]
        b3 = sqrt(b2)
        weight = d / D0 * where(hyper["safeguard_warmup"], d, step)
        held, along, size = state[TRIAL]["numerator"], [], []
        for name, p in params.items():
            g, distance = grads[name], state["distance"][name]
            gap = scratch[name] = state["start"][name] - p
            along.append(own_dot(g, gap, lead).to(held.device))
            add_(state["mean"][name].mul_(self._number(b1, p)), g, self._number((1 - b1) * d, p))
            average_squares_(state["square"][name], g, self._number(b2, p), self._number((1 - b2) * d * d, p))
            add_(distance.mul_(self._number(b3, p)), g, self._number(weight, p))
            size.append(own_size(distance, lead, gap).to(held.device))
        if not self.layout.batched:
            # Numbers of a single run are floats: small tensors cost as much as large ones.
            return b3 * float(held) + d / D0 * step * sum(map(float, along)), sum(map(float, size))
        return b3 * held + d / D0 * step * torch.stack(along).sum(0), torch.stack(size).sum(0)

    def _number(self, value: Scalar, like: object) -> Scalar:
        """Ready to multiply a weight: shaped for K trials, a float for one."""
        return per_trial(value, like) if self.layout.batched else float(value)  # type: ignore[arg-type]


def _correction(hyper: Hyper, t: int) -> Scalar:
    return where(hyper["use_bias_correction"], sqrt(1 - hyper["beta2"] ** t) / (1 - hyper["beta1"] ** t), 1.0)
