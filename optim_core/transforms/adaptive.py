"""Methods that scale each weight by the root of its squared gradients, without a first moment."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from optim_core.transforms.base import Hyper, OwnState, Scalar
from optim_core.transforms.decay import add_l2, coupled


def adagrad_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """Learning rate, ε, L2."""
    return {"lr": hyper["lr"], "eps": hyper["eps"], **coupled(hyper)}


def adagrad(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """s += g²; p −= lr·g/(√s + ε) (Duchi, Hazan & Singer 2011); accumulator starts at 0, as in torch."""
    g = add_l2(p, g, n)
    total = (g * g).add_(s["sum"])
    return p - (n["lr"] * g).div_(total.sqrt().add_(n["eps"])), {"sum": total}


def rmsprop_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """As Adagrad's, with α and 1 − α."""
    return {**adagrad_numbers(hyper, t), "keep2": hyper["alpha"], "new2": 1 - hyper["alpha"]}


def rmsprop(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """v = αv + (1 − α)g²; p −= lr·g/(√v + ε) (Tieleman & Hinton 2012). ε outside the root, as in torch."""
    g = add_l2(p, g, n)
    v = (n["new2"] * g).mul_(g).add_(n["keep2"] * s["square"])
    return p - (n["lr"] * g).div_(v.sqrt().add_(n["eps"])), {"square": v}
