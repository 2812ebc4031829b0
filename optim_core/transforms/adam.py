"""Adam and its relatives: a first moment over the root of a second moment, both corrected for their start at zero.

Arithmetic in place is done on temporaries of our own only; what was passed in stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.base import Hyper, OwnState, Scalar, sqrt
from optim_core.transforms.decay import add_l2, coupled, decoupled, shrink


def _moment_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    b1, b2 = hyper["beta1"], hyper["beta2"]
    return {
        "new1": 1 - b1,
        "keep2": b2,
        "new2": 1 - b2,
        "lr": hyper["lr"] / (1 - b1**t),
        "root": sqrt(1 - b2**t),
        "eps": hyper["eps"],
    }


def coupled_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """1 − β₁, β₂, 1 − β₂, lr/(1 − β₁ᵗ), √(1 − β₂ᵗ), ε, L2."""
    return {**_moment_numbers(hyper, t), **coupled(hyper)}


def decoupled_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """The same with 1 − lr·wd in place of L2."""
    return {**_moment_numbers(hyper, t), **decoupled(hyper)}


def _moments(g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, Tensor]:
    m = (g - s["mean"]).mul_(n["new1"]).add_(s["mean"])
    v = (g * g).mul_(n["new2"]).add_(n["keep2"] * s["square"])
    return m, v


def _step(p: Tensor, numerator: Tensor, second: Tensor, n: Mapping[str, Scalar]) -> Tensor:
    """p − lr·(numerator/(1 − β₁ᵗ))/(√(second/(1 − β₂ᵗ)) + ε), with torch's order of operations."""
    denominator = second.sqrt().div_(n["root"]).add_(n["eps"])
    return p - torch.div(numerator, denominator, out=denominator).mul_(n["lr"])


def adam(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """Kingma & Ba 2015 (arXiv 1412.6980), with coupled L2 as ``torch.optim.Adam``."""
    m, v = _moments(add_l2(p, g, n), s, n)
    return _step(p, m, v, n), {"mean": m, "square": v}


def adamw(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """Loshchilov & Hutter 2019 (arXiv 1711.05101): p *= 1 − lr·wd, then Adam. Equals ``torch.optim.AdamW``."""
    m, v = _moments(g, s, n)
    return _step(shrink(p, n), m, v, n), {"mean": m, "square": v}


def amsgrad(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """Reddi et al. 2018 (arXiv 1904.09237). As torch: maximum of the uncorrected v, then today's correction."""
    m, v = _moments(add_l2(p, g, n), s, n)
    highest = torch.maximum(s["highest"], v)
    return _step(p, m, highest, n), {"mean": m, "square": v, "highest": highest}


def nadamw(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """AlgoPerf's NAdamW (arXiv 2306.07179, as timm): Adam with the numerator (β₁m + (1 − β₁)g)/(1 − β₁ᵗ).

    Not ``torch.optim.NAdam``, whose momentum follows a schedule of its own.
    """
    m, v = _moments(g, s, n)
    ahead = (g - m).mul_(n["new1"]).add_(m)
    return _step(shrink(p, n), ahead, v, n), {"mean": m, "square": v}


def radam_numbers(hyper: Hyper, t: int) -> dict[str, Scalar]:
    """As Adam's, with the rectification √(1 − β₂ᵗ)·rₜ and ρₜ − 5, whose sign says whether it applies."""
    b2 = torch.as_tensor(hyper["beta2"], dtype=torch.float64)
    c2 = 1 - b2**t
    limit = 2 / (1 - b2) - 1
    rho = limit - 2 * t * b2**t / c2
    rectified = ((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)).clamp(min=0).sqrt()
    return {**coupled_numbers(hyper, t), "rectified": c2.sqrt() * rectified, "beyond": rho - 5}


def radam(p: Tensor, g: Tensor, s: OwnState, n: Mapping[str, Scalar]) -> tuple[Tensor, OwnState]:
    """Liu et al. 2020 (arXiv 1908.03265): adaptive only once the variance of 1/√v is tractable (ρₜ > 5, as torch).

    Before that the step is lr·m̂, which is plain momentum at Adam's learning rate.
    """
    m, v = _moments(add_l2(p, g, n), s, n)
    adaptive = n["rectified"] / v.sqrt().add_(n["eps"])
    factor = torch.where(torch.as_tensor(n["beyond"]) > 0, adaptive, 1.0)
    return p - (n["lr"] * m).mul_(factor), {"mean": m, "square": v}
