"""Gradient descent and momentum, in the form of ``torch.optim.SGD``: b = μb + g, p −= lr·b, first step b = g.

The textbook's v = μv + lr·g, p −= v is the same path only while the learning rate is constant.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from optim_core.transforms.base import Hyper, OwnState, Scalar
from optim_core.transforms.decay import add_l2, coupled


def sgd_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """Learning rate, momentum where there is one, L2."""
    return {"lr": hyper["lr"], "mu": hyper.get("momentum", 0.0), **coupled(hyper)}


def sgd(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """p −= lr·g (Robbins & Monro 1951)."""
    return p - n["lr"] * add_l2(p, g, n), s


def momentum(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """b = μb + g; p −= lr·b (Polyak 1964). The buffer starts at zero, so the first b is g, as in torch."""
    b = (n["mu"] * s["buffer"]).add_(add_l2(p, g, n))
    return p - n["lr"] * b, {"buffer": b}


def nesterov(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """b = μb + g; p −= lr·(g + μb). The parameters are Sutskever's look-ahead point p + μv, as in torch."""
    g = add_l2(p, g, n)
    b = (n["mu"] * s["buffer"]).add_(g)
    return p - (n["mu"] * b).add_(g).mul_(n["lr"]), {"buffer": b}
