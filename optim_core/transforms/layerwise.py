"""Methods that scale each weight tensor's step by norms: LARS and LAMB (large batches) and Adafactor (little memory)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.adam import denominator, moment_numbers, moments_
from optim_core.transforms.arithmetic import Array, add_, norms, ratio_
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, is_zero, smallest
from optim_core.transforms.bundle import Bundle
from optim_core.transforms.decay import coupled, decoupled, shrink_, with_l2


def lamb_numbers(hyper: Hyper, t: int) -> Numbers:
    """Adam's, with −lr apart from the correction of the mean, and the decay that joins the step before it is scaled."""
    n = moment_numbers(hyper, t)
    scale = n["root"] / (1 - hyper["beta1"] ** t)
    return {
        **n,
        "rate": -hyper["lr"],
        "mean_scale": scale,
        **coupled(hyper),
        "l2_scaled": hyper["weight_decay"] / scale,
    }


def lamb(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """u = m̂/(√v̂ + ε) + wd·p; p −= lr·(‖p‖/‖u‖)·u (You et al. 2020, arXiv 1904.00962). Ratio 1 where a norm is 0.

    As timm with ``always_adapt`` and no clipping of its own: libraries that skip the ratio where wd = 0 turn into Adam.
    """
    moments_(g, s, n)
    # u/mean_scale: the ratio takes the factor out again, so only a step without a ratio needs it.
    u = ratio_(s["mean"], denominator(s["square"], n))
    if not is_zero(n["l2"]):
        add_(u, p, n["l2_scaled"])
    add_(p, u, _ratio(norms(p, lead), norms(u, lead), n["mean_scale"]).mul_(n["rate"]))


def _ratio(above: Tensor, below: Tensor, otherwise: Scalar) -> Tensor:
    """above/below, ``otherwise`` where either is 0. NaN stays NaN: a diverged trial must not look healthy."""
    usable = (above > 0) & (below > 0)
    return torch.where(usable | above.isnan() | below.isnan(), above / below, otherwise)


def lars_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, momentum, trust coefficient, ε, L2."""
    return {
        "down": -hyper["lr"],
        "mu": hyper["momentum"],
        "trust": hyper["trust_coefficient"],
        "eps": hyper["eps"],
        **coupled(hyper),
    }


def lars(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """r = c·‖p‖/(‖g‖ + wd·‖p‖ + ε); b = μb + r·(g + wd·p); p −= lr·b (You et al. 2017, arXiv 1708.03888)."""
    ratio = _trust(norms(p, lead), norms(g, lead), n)
    add_(s["buffer"].mul_(n["mu"]), with_l2(p, g, n), ratio)
    add_(p, s["buffer"], n["down"])


def _trust(w: Tensor, d: Tensor, n: Mapping[str, Scalar]) -> Tensor:
    usable = ((w > 0) & (d > 0)) | w.isnan() | d.isnan()
    return torch.where(usable, n["trust"] * w / (d + n["l2"] * w + n["eps"]), 1.0)


def adafactor_start(p: Array, hyper: Hyper, lead: int) -> Own:
    """Row and column means of the squares for a matrix (last two axes); the squares themselves for a vector."""
    if isinstance(p, Bundle):
        each = [adafactor_start(x, hyper, lead) for x in p.tensors]
        return {key: Bundle(own[key] for own in each) for key in each[0]}
    if p.ndim - lead < 2:
        return {"square": torch.zeros_like(p)}
    return {"row": torch.zeros_like(p[..., :1]), "column": torch.zeros_like(p[..., :1, :])}


def adafactor_numbers(hyper: Hyper, t: int) -> Numbers:
    """1 − β₂ₜ = t^−0.8, the relative step min(lr, 1/√t), its floor, the clip threshold d, decay."""
    return {
        "new2": float(t) ** -0.8,
        "relative": smallest(hyper["lr"], t**-0.5),
        "floor": hyper["eps"],
        "threshold": hyper["d"],
        **decoupled(hyper),
    }


def adafactor(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """v̂ = R·C/mean(R); u = g/√v̂; p −= max(ε₂, rms(p))·min(lr, 1/√t)·u/max(1, rms(u)/d) (Shazeer & Stern 2018,

    arXiv 1804.04235), as ``torch.optim.Adafactor``: no momentum, learning rate relative to the weight's own size.
    """
    tiny, count = torch.finfo(p.dtype).eps, max(1, p[(0,) * lead].numel())
    squares = g * g
    if "square" in s:
        estimate = s["square"].lerp_(squares, n["new2"]).clamp(min=tiny * tiny)
    else:
        row = s["row"].lerp_(squares.mean(-1, keepdim=True), n["new2"])
        column = s["column"].lerp_(squares.mean(-2, keepdim=True), n["new2"])
        scaled = row / row.mean(-2, keepdim=True).clamp(min=tiny)
        estimate = torch.mul(scaled, column, out=squares).clamp_(min=tiny * tiny)
    u = ratio_(g, estimate.sqrt_())
    floor = torch.as_tensor(n["floor"], dtype=p.dtype, device=p.device)
    size = torch.maximum(norms(p, lead) / count**0.5, floor)
    clip = (norms(u, lead) / (count**0.5 * n["threshold"])).clamp(min=1.0)
    add_(shrink_(p, n), u, size / clip * -n["relative"])
