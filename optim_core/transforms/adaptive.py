"""Methods that scale each weight by a root of its squared gradients, without a mean of the gradients."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import (
    Array,
    add_,
    add_product_,
    add_ratio_,
    average_squares_,
    clamp_below_,
    cube_root,
    zeros_like,
)
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, is_any
from optim_core.transforms.decay import coupled, with_l2


def adagrad_numbers(hyper: Hyper, t: int) -> Numbers:
    """Decayed learning rate, what the accumulator starts at, ε, L2."""
    return {
        "down": -hyper["lr"] / (1 + (t - 1) * hyper["lr_decay"]),
        "initial": hyper["initial_accumulator_value"] if t == 1 else 0.0,
        "eps": hyper["eps"],
        **coupled(hyper),
    }


def adagrad(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """s += g²; p −= lr/(1 + (t − 1)·lr_decay)·g/(√s + ε) (Duchi, Hazan & Singer 2011), as ``torch.optim.Adagrad``."""
    g = with_l2(p, g, n)
    add_product_(s["sum"].add_(n["initial"]), g, g, 1.0)
    add_ratio_(p, g, s["sum"].sqrt().add_(n["eps"]), n["down"])


def rmsprop_start(p: Array, hyper: Hyper, lead: int) -> Own:
    """The mean only when some trial centers, the buffer only when some trial has momentum."""
    names = ["square"]
    if is_any(hyper["centered"]):
        names.append("mean")
    if is_any(hyper["momentum"]):
        names.append("buffer")
    return {name: zeros_like(p) for name in names}


def rmsprop_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, α, 1 − α, momentum, minus whether centered, ε, L2."""
    alpha = hyper["alpha"]
    shared = {"down": -hyper["lr"], "keep2": alpha, "new2": 1 - alpha, "eps": hyper["eps"], **coupled(hyper)}
    return {**shared, "mu": hyper["momentum"], "less": hyper["centered"] * -1.0}


def rmsprop(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """v = αv + (1 − α)g²; u = g/(√v + ε); p −= lr·u, or b = μb + u; p −= lr·b (Tieleman & Hinton 2012).

    Centered: v − m² in place of v, with m the mean gradient (Graves 2013). ε outside the root, as in torch; rounding
    that makes v − m² negative, which torch turns into NaN, counts as zero.
    """
    g = with_l2(p, g, n)
    spread = average_squares_(s["square"], g, n["keep2"], n["new2"])
    if "mean" in s:
        s["mean"].lerp_(g, n["new2"])
        spread = clamp_below_(add_product_(spread.clone(), s["mean"], s["mean"], n["less"]), 0.0)
    root = spread.sqrt().add_(n["eps"])
    if "buffer" in s:
        add_ratio_(s["buffer"].mul_(n["mu"]), g, root, 1.0)
        add_(p, s["buffer"], n["down"])
    else:
        add_ratio_(p, g, root, n["down"])


def adadelta_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, ρ, 1 − ρ, ε, L2."""
    rho = hyper["rho"]
    return {"down": -hyper["lr"], "keep": rho, "new": 1 - rho, "eps": hyper["eps"], **coupled(hyper)}


def adadelta(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """v = ρv + (1 − ρ)g²; d = √((a + ε)/(v + ε))·g; a = ρa + (1 − ρ)d²; p −= lr·d (Zeiler 2012, arXiv 1212.5701)."""
    g = with_l2(p, g, n)
    average_squares_(s["square"], g, n["keep"], n["new"])
    step = (s["steps"] + n["eps"]).div_(s["square"] + n["eps"]).sqrt_().mul_(g)
    average_squares_(s["steps"], step, n["keep"], n["new"])
    add_(p, step, n["down"])


def madgrad_start(p: Array, hyper: Hyper, lead: int) -> Own:
    """Both sums at zero, and the weight as it was."""
    del hyper, lead
    return {"square": zeros_like(p), "sum": zeros_like(p), "start": p.clone()}


def madgrad_numbers(hyper: Hyper, t: int) -> Numbers:
    """λ = lr·√t, 1 − μ, ε, L2."""
    return {"rate": hyper["lr"] * t**0.5, "new": 1 - hyper["momentum"], "eps": hyper["eps"], **coupled(hyper)}


def madgrad(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """v += λg²; s += λg; p = μp + (1 − μ)(p₀ − s/(∛v + ε)), λ = lr·√t (Defazio & Jelassi 2021, arXiv 2101.11075).

    The authors' code adds ε to lr, which the paper does not.
    """
    g = with_l2(p, g, n)
    add_product_(s["square"], g, g, n["rate"])
    root = cube_root(s["square"]).add_(n["eps"])
    p.lerp_(add_ratio_(s["start"].clone(), add_(s["sum"], g, n["rate"]), root, -1.0), n["new"])
