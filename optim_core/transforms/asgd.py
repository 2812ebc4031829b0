"""Averaged stochastic gradient descent (Polyak & Juditsky 1992): SGD whose answer is the mean of its later iterates."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_
from optim_core.transforms.base import Hyper, Hypers, Layout, Numbers, Own, Params, Scalar, State, Transform, where
from optim_core.transforms.decay import coupled, with_l2
from optim_core.transforms.lift import elementwise


def start(p: Array, hyper: Hyper, lead: int) -> Own:
    """The average of no iterate yet: the initial weight."""
    del hyper, lead
    return {"average": p.clone()}


def asgd_numbers(hyper: Hyper, t: int) -> Numbers:
    """η = lr/(1 + λ·lr·(t − 1))^α, 1 − λη, the share of the new iterate in the average, L2.

    ``torch.optim.ASGD`` works η out at the end of the step before, so there a schedule acts one step late.
    """
    lr, lambd = hyper["lr"], hyper["lambd"]
    eta = lr / (1 + lambd * lr * (t - 1)) ** hyper["alpha"]
    averaged = t - 1 - hyper["t0"]
    share = where(averaged > 1, 1 / where(averaged > 1, averaged, 1.0), 1.0)
    return {"down": -eta, "keep": 1 - lambd * eta, "share": share, **coupled(hyper)}


def asgd_rule(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """p = (1 − λη)p − η·g; from step t₀ + 2 on x += (p − x)/(t − 1 − t₀), before that x = p."""
    g = with_l2(p, g, n)
    add_(p.mul_(n["keep"]), g, n["down"])
    s["average"].lerp_(p, n["share"])


def _average(params: Params, state: State, hypers: Hypers) -> Params:
    del hypers
    return {name: state["average"][name] for name in params}


def asgd(layout: Layout) -> Transform:
    """The rule with the average as its answer."""
    return elementwise(start, asgd_numbers, asgd_rule)(layout)._replace(answer=_average)
