"""AdaBound and AMSBound: Adam whose step sizes are squeezed towards those of SGD."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.adam import coupled_numbers, moments_
from optim_core.transforms.arithmetic import Array, add_product_, choose, clamp_, largest_, zeros_like
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, is_any, is_zero
from optim_core.transforms.decay import with_l2


def adabound_start(p: Array, hyper: Hyper, lead: int) -> Own:
    """The maximum only when some trial asks for AMSBound."""
    names = ("mean", "square", "highest") if is_any(hyper["amsbound"]) else ("mean", "square")
    return {name: zeros_like(p) for name in names}


def adabound_numbers(hyper: Hyper, t: int) -> Numbers:
    """As Adam's, with the band around F = final_lr·lr/base_lr, which closes as 1/(γt)."""
    base = hyper["base_lr"]
    final = hyper["final_lr"] * (0.0 if is_zero(base) else hyper["lr"] / base)
    gamma = hyper["gamma"]
    n = coupled_numbers(hyper, t)
    return {
        **n,
        "step": -n["down"] * n["root"],
        "low": final * (1 - 1 / (gamma * t + 1)),
        "high": final * (1 + 1 / (gamma * t)),
        "ams": hyper["amsbound"] * 1.0,
    }


def adabound(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """p −= clip(lr·√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), low, high)·m (Luo et al. 2019, arXiv 1902.09843, as their package)."""
    moments_(with_l2(p, g, n), s, n)
    second = s["square"]
    if "highest" in s:
        second = choose(n["ams"], largest_(s["highest"], second), second)
    rate = second.sqrt().add_(n["eps"]).reciprocal_().mul_(n["step"])
    add_product_(p, clamp_(rate, n["low"], n["high"]), s["mean"], -1.0)
