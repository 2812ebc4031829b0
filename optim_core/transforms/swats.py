"""SWATS (Keskar & Socher 2017, arXiv 1712.07628): Adam until its step, seen along the gradient, has a stable length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.adam import moments_
from optim_core.transforms.arithmetic import Array, add_, ratio_, zeros_like
from optim_core.transforms.base import (
    TRIAL,
    Hyper,
    Hypers,
    Layout,
    Numbers,
    Own,
    Params,
    Scalar,
    State,
    Transform,
    all_alike,
    all_per_trial,
    own_dot,
    pure,
    sqrt,
    start_of_trial,
)
from optim_core.transforms.decay import with_l2

KEYS = ("mean", "square", "buffer")


def swats(layout: Layout) -> Transform:
    """Adam first; SGD with momentum β₁ from the step after which its projected rate γ has settled.

    γ = s·s/(−s·g) over all weights of a trial (the paper's; libraries that decide per tensor differ). It has settled when
    its corrected mean is within ``tolerance`` of it (relative), no earlier than after a tenth of β₂'s memory. The SGD rate
    then follows later changes of lr.
    """
    method = _Swats(layout)
    return Transform(method.init, pure(method.update_), method.update_, shape_free=True, bundles=all_alike)


class _Swats:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def init(self, params: Params, hypers: Hypers) -> State:
        del hypers
        names = ("switched", "mean_rate", "sgd_rate", "lr_then")
        trial = {key: start_of_trial(params, self.layout.lead) for key in names}
        return {**{key: {n: zeros_like(p) for n, p in params.items()} for key in KEYS}, TRIAL: trial}

    def update_(self, params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        lead, last = self.layout.lead, state[TRIAL]
        square = along = torch.zeros_like(last["switched"])
        for name, p in params.items():
            n = _numbers(hypers[self.layout.group(name)], self.layout.age(name, t), last)
            n = all_per_trial(n, p) if self.layout.batched else {key: float(v) for key, v in n.items()}
            g = with_l2(p, grads[name], n)
            own = {key: state[key][name] for key in KEYS}
            if not self.layout.batched and n["switched"] > 0:
                _sgd_step_(p, g, own, n)
                continue
            # The step is ``scale`` times this. Of trials that have switched nothing is decided any more.
            step, scale = _both_steps_(g, own, n) if self.layout.batched else (_adam_step_(g, own, n), n["adam"])
            size, direction = (own_dot(step, x, lead).to(square.device) for x in (step, g))
            square, along = square + size * (scale * scale), along + direction * scale
            add_(p, step, scale)
        state[TRIAL] |= _decide(last, hypers[self.layout.group(next(iter(params)))], square, along, t)


def _adam_step_(g: Array, s: Own, n: Mapping[str, Scalar]) -> Array:
    """Adam's step without its factor ``n["adam"]``."""
    moments_(g, s, n)
    return ratio_(s["mean"], s["square"].sqrt().add_(n["eps"]))


def _sgd_step_(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    add_(p, s["buffer"].mul_(n["keep1"]).add_(g), n["sgd"])


def _both_steps_(g: Tensor, s: Own, n: Mapping[str, Scalar]) -> tuple[Tensor, float]:
    switched = torch.as_tensor(n["switched"]) > 0
    adam_step = _adam_step_(g, s, n) * n["adam"]
    moved = add_(s["buffer"] * n["keep1"], g, 1.0)
    s["buffer"].copy_(torch.where(switched, moved, s["buffer"]))
    return torch.where(switched, s["buffer"] * n["sgd"], adam_step), 1.0


def _numbers(hyper: Hyper, t: int, last: Mapping[str, Tensor]) -> Numbers:
    b1, b2 = hyper["beta1"], hyper["beta2"]
    since = torch.where(last["lr_then"] > 0, hyper["lr"] / last["lr_then"], 1.0)
    return {
        "new1": 1 - b1,
        "keep1": b1,
        "keep2": b2,
        "new2": 1 - b2,
        "adam": -hyper["lr"] * sqrt(1 - b2**t) / (1 - b1**t),
        "sgd": -(1 - b1) * last["sgd_rate"] * since,
        "eps": hyper["eps"],
        "l2": hyper["weight_decay"],
        "switched": last["switched"],
    }


def _decide(last: Mapping[str, Tensor], hyper: Hyper, square: Tensor, along: Tensor, t: int) -> Params:
    """The phase after this step."""
    switched, b2 = last["switched"] > 0, hyper["beta2"]
    correction = 1 - b2**t
    # A step across the gradient says nothing: the mean stays, and nothing is decided.
    told = ~switched & (along != 0)
    gamma = torch.where(told, square / -along, 0.0)
    mean = torch.where(told, b2 * last["mean_rate"] + (1 - b2) * gamma, last["mean_rate"])
    rate = mean / correction
    long_enough = torch.as_tensor(t * (1 - b2) * 10 >= 1, device=gamma.device) & (t > 1)
    settled = (rate > 0) & ((rate - gamma).abs() < hyper["tolerance"] * gamma.abs())
    hit = told & long_enough & settled
    lr = torch.as_tensor(hyper["lr"], dtype=torch.float64, device=gamma.device)
    return {
        "switched": (switched | hit).double(),
        "mean_rate": mean,
        "sgd_rate": torch.where(hit, rate, last["sgd_rate"]),
        "lr_then": torch.where(hit, lr.expand_as(rate), last["lr_then"]),
    }
