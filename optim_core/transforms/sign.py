"""Methods whose step has the same size for every weight."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_, mix
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar
from optim_core.transforms.decay import decoupled, shrink_


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
