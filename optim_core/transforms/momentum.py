"""Gradient descent and momentum, in the form of ``torch.optim.SGD``: b = μb + g, p −= lr·b, first step b = g.

The textbook's v = μv + lr·g, p −= v is the same path only while the learning rate is constant.
"""

from __future__ import annotations

from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial
from optim_core.transforms.decay import add_l2

OwnState = dict[str, Tensor]


def sgd(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """p −= lr·g (Robbins & Monro 1951)."""
    return p - per_trial(hyper["lr"], p) * add_l2(p, g, hyper), s


def momentum(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """b = μb + g; p −= lr·b (Polyak 1964). The buffer starts at zero, so the first b is g, as in torch."""
    b = per_trial(hyper["momentum"], p) * s["buffer"] + add_l2(p, g, hyper)
    return p - per_trial(hyper["lr"], p) * b, {"buffer": b}


def nesterov(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """b = μb + g; p −= lr·(g + μb). The parameters are Sutskever's look-ahead point p + μv, as in torch."""
    g = add_l2(p, g, hyper)
    mu = per_trial(hyper["momentum"], p)
    b = mu * s["buffer"] + g
    return p - per_trial(hyper["lr"], p) * (g + mu * b), {"buffer": b}
