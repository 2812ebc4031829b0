"""Methods that look at the sign of a gradient or of its mean, not at its size."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_, add_product_, clamp_, mix
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar
from optim_core.transforms.decay import coupled, decoupled, shrink_, with_l2


def lion_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, β₁, 1 − β₂, decay."""
    return {"down": -hyper["lr"], "keep1": hyper["beta1"], "new2": 1 - hyper["beta2"], **decoupled(hyper)}


def lion(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """p *= 1 − lr·wd; p −= lr·sign(β₁m + (1 − β₁)g); m = β₂m + (1 − β₂)g (Chen et al. 2023, arXiv 2302.06675)."""
    direction = mix(g, s["mean"], n["keep1"]).sign_()
    add_(shrink_(p, n), direction, n["down"])
    s["mean"].lerp_(g, n["new2"])


def signum_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, 1 − μ, decay."""
    return {"down": -hyper["lr"], "new": 1 - hyper["momentum"], **decoupled(hyper)}


def signum(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """p *= 1 − lr·wd; m = μm + (1 − μ)g; p −= lr·sign(m) (Bernstein et al. 2018, arXiv 1802.04434)."""
    s["mean"].lerp_(g, n["new"])
    # The sign while the mean is in the cache, and the weight's two passes one after the other.
    direction = s["mean"].sign()
    add_(shrink_(p, n), direction, n["down"])


def rprop_numbers(hyper: Hyper, t: int) -> Numbers:
    """What a step starts at and its bounds; its growth 1 + tilt·a + lift·a², which is η⁺, 1 and η⁻ at a = 1, 0 and −1; L2.

    As in torch the rate is looked at once, at a weight's first step: no schedule matters afterwards.
    """
    up, down = hyper["eta_plus"], hyper["eta_minus"]
    return {
        "initial": hyper["lr"] if t == 1 else 0.0,
        "tilt": (up - down) / 2,
        "lift": (up + down) / 2 - 1,
        "low": hyper["step_min"],
        "high": hyper["step_max"],
        **coupled(hyper),
    }


def rprop(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Δ *= η⁺ where the gradient keeps its sign, η⁻ where it turns; p −= Δ·sign(g), but not where it has just turned.

    Riedmiller & Braun 1993 without going back, as ``torch.optim.Rprop``.
    """
    sign = with_l2(p, g, n).sign()
    # The product of two signs: that of two small gradients would be 0.
    agree = s["sign"].mul_(sign)
    square = agree * agree
    size = s["size"].add_(n["initial"]).mul_(add_(agree * n["tilt"], square, n["lift"]).add_(1.0))
    # square − agree is 2 where the sign has turned.
    s["sign"].copy_(add_product_(sign.clone(), sign, add_(square, agree, -1.0), -0.5))
    add_product_(p, s["sign"], clamp_(size, n["low"], n["high"]), -1.0)
