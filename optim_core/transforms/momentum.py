"""Gradient descent, and momentum in its three forms.

With a constant learning rate they draw the same path when lr(EMA) = lr/(1 − μ); they part as soon as the rate changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar
from optim_core.transforms.decay import coupled, with_l2


def sgd_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr and lr, momentum where there is one and its complement, L2."""
    mu, lr = hyper.get("momentum", 0.0), hyper["lr"]
    return {"down": -lr, "lr": lr, "mu": mu, "new": 1 - mu, **coupled(hyper)}


def sgd(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """p −= lr·g (Robbins & Monro 1951)."""
    add_(p, with_l2(p, g, n), n["down"])


def momentum(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """b = μb + g; p −= lr·b (Polyak 1964, as ``torch.optim.SGD``). The buffer starts at zero, so the first b is g."""
    s["buffer"].mul_(n["mu"]).add_(with_l2(p, g, n))
    add_(p, s["buffer"], n["down"])


def nesterov(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """b = μb + g; p −= lr·(g + μb). The parameters are Sutskever's look-ahead point p + μv, as in torch."""
    g = with_l2(p, g, n)
    s["buffer"].mul_(n["mu"]).add_(g)
    add_(p, add_(g.clone(), s["buffer"], n["mu"]), n["down"])


def heavy_ball(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """v = μv + lr·g; p −= v: the textbook's form (Sutskever et al. 2013), whose old steps keep their old rate."""
    add_(s["velocity"].mul_(n["mu"]), with_l2(p, g, n), n["lr"])
    p.add_(s["velocity"], alpha=-1)


def momentum_ema(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """m = μm + (1 − μ)g; p −= lr·m: an average of gradients, so lr is 1/(1 − μ) times that of the other forms."""
    s["mean"].lerp_(with_l2(p, g, n), n["new"])
    add_(p, s["mean"], n["down"])
