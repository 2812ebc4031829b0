"""Methods that scale each weight by the root of its squared gradients, without a first moment."""

from __future__ import annotations

from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial
from optim_core.transforms.decay import add_l2

OwnState = dict[str, Tensor]


def adagrad(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """s += g²; p −= lr·g/(√s + ε) (Duchi, Hazan & Singer 2011); accumulator starts at 0, as in torch."""
    g = add_l2(p, g, hyper)
    total = s["sum"] + g * g
    return p - per_trial(hyper["lr"], p) * g / (total.sqrt() + per_trial(hyper["eps"], p)), {"sum": total}


def rmsprop(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """v = αv + (1 − α)g²; p −= lr·g/(√v + ε) (Tieleman & Hinton 2012). ε outside the root, as in torch."""
    g = add_l2(p, g, hyper)
    v = per_trial(hyper["alpha"], p) * s["square"] + per_trial(1 - hyper["alpha"], p) * g * g
    return p - per_trial(hyper["lr"], p) * g / (v.sqrt() + per_trial(hyper["eps"], p)), {"square": v}
