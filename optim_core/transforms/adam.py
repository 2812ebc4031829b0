"""Adam and its relatives: a first moment over the root of a second moment, both corrected for their start at zero."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.transforms.base import Hyper, per_trial, sqrt
from optim_core.transforms.decay import add_l2, shrink

OwnState = dict[str, Tensor]


def _moments(g: Tensor, s: OwnState, hyper: Hyper) -> tuple[Tensor, Tensor]:
    m = s["mean"] + (g - s["mean"]) * per_trial(1 - hyper["beta1"], g)
    v = per_trial(hyper["beta2"], g) * s["square"] + per_trial(1 - hyper["beta2"], g) * (g * g)
    return m, v


def _step(p: Tensor, numerator: Tensor, second: Tensor, hyper: Hyper, t: int) -> Tensor:
    """p − lr·(numerator/(1 − β₁ᵗ))/(√(second/(1 − β₂ᵗ)) + ε), with torch's order of operations."""
    c1, c2 = 1 - hyper["beta1"] ** t, 1 - hyper["beta2"] ** t
    denominator = second.sqrt() / per_trial(sqrt(c2), p) + per_trial(hyper["eps"], p)
    return p - per_trial(hyper["lr"] / c1, p) * (numerator / denominator)


def adam(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """Kingma & Ba 2015 (arXiv 1412.6980), with coupled L2 as ``torch.optim.Adam``."""
    m, v = _moments(add_l2(p, g, hyper), s, hyper)
    return _step(p, m, v, hyper, t), {"mean": m, "square": v}


def adamw(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """Loshchilov & Hutter 2019 (arXiv 1711.05101): p *= 1 − lr·wd, then Adam. Equals ``torch.optim.AdamW``."""
    m, v = _moments(g, s, hyper)
    return _step(shrink(p, hyper), m, v, hyper, t), {"mean": m, "square": v}


def amsgrad(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """Reddi et al. 2018 (arXiv 1904.09237). As torch: maximum of the uncorrected v, then today's correction."""
    m, v = _moments(add_l2(p, g, hyper), s, hyper)
    highest = torch.maximum(s["highest"], v)
    return _step(p, m, highest, hyper, t), {"mean": m, "square": v, "highest": highest}


def nadamw(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """AlgoPerf's NAdamW (arXiv 2306.07179, as timm): Adam with the numerator (β₁m + (1 − β₁)g)/(1 − β₁ᵗ).

    Not ``torch.optim.NAdam``, whose momentum follows a schedule of its own.
    """
    m, v = _moments(g, s, hyper)
    ahead = m + (g - m) * per_trial(1 - hyper["beta1"], p)
    return _step(shrink(p, hyper), ahead, v, hyper, t), {"mean": m, "square": v}


def radam(p: Tensor, g: Tensor, s: OwnState, hyper: Hyper, t: int) -> tuple[Tensor, OwnState]:
    """Liu et al. 2020 (arXiv 1908.03265): adaptive only once the variance of 1/√v is tractable (ρₜ > 5, as torch).

    Before that the step is lr·m̂, which is plain momentum at Adam's learning rate.
    """
    m, v = _moments(add_l2(p, g, hyper), s, hyper)
    b1, b2 = torch.as_tensor(hyper["beta1"], dtype=torch.float64), torch.as_tensor(hyper["beta2"], dtype=torch.float64)
    c1, c2 = 1 - b1**t, 1 - b2**t
    limit = 2 / (1 - b2) - 1
    rho = limit - 2 * t * b2**t / c2
    rectified = ((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)).clamp(min=0).sqrt()
    adaptive = per_trial(c2.sqrt() * rectified, p) / (v.sqrt() + per_trial(hyper["eps"], p))
    factor = torch.where(torch.as_tensor(per_trial(rho - 5, p)) > 0, adaptive, torch.ones_like(adaptive))
    return p - per_trial(hyper["lr"] / c1, p) * m * factor, {"mean": m, "square": v}
