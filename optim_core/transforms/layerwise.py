"""Methods that scale each weight tensor's step by norms: LARS, LAMB, NovoGrad, AdamP, StableAdamW and Adafactor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.adam import denominator, moment_numbers, moments_
from optim_core.transforms.arithmetic import (
    Array,
    add_,
    add_ratio_,
    clamp_below_,
    keep_one_number_each_,
    norms,
    one_number_each,
    ratio_,
    sqrt_into,
)
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, is_zero, own_mean, smallest
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


def novograd_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """The mean, and one number for the whole weight."""
    return {"mean": torch.zeros_like(p), "square": p.new_zeros(p.shape[:lead] + (1,) * (p.ndim - lead))}


def novograd_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, β₁, 1 − β₂, ε, L2 of the normalised gradient."""
    shared = {"down": -hyper["lr"], "keep1": hyper["beta1"], "new2": 1 - hyper["beta2"], "eps": hyper["eps"]}
    return {**shared, **coupled(hyper)}


def novograd(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """v = β₂v + (1 − β₂)‖g‖²; m = β₁m + g/(√v + ε) + wd·p; p −= lr·m (Ginsburg et al. 2019, arXiv 1905.11286).

    v starts at the first ‖g‖² that is not 0: no correction is needed.
    """
    size = norms(g, lead).square()
    held = one_number_each(s["square"])
    v = torch.where(held > 0, held.lerp(size, n["new2"]), size)
    keep_one_number_each_(s["square"], v)
    mean = add_(s["mean"].mul_(n["keep1"]), g, v.sqrt().add_(n["eps"]).reciprocal_())
    add_(p, mean if is_zero(n["l2"]) else add_(mean, p, n["l2"]), n["down"])


def adamp_numbers(hyper: Hyper, t: int) -> Numbers:
    """Adam's, with δ, and lr·wd apart from its share for weights whose length does not matter."""
    shrinking = {"decay": hyper["lr"] * hyper["weight_decay"], "wd_ratio": hyper["wd_ratio"]}
    return {**moment_numbers(hyper, t), "delta": hyper["delta"], **shrinking}


def adamp(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """Adam's step without its part along the weight, where the loss does not depend on the weight's length.

    That is taken to be so where |cos(g, p)| < δ/√dim for every row, else for the whole weight (Heo et al. 2021,
    arXiv 2006.08217). Decay is weaker there by ``wd_ratio``. Vectors take Adam's step.
    """
    moments_(g, s, n)
    u = ratio_(s["mean"], denominator(s["square"], n)).mul_(n["root"])
    decay = n["decay"]
    if p.ndim - lead > 1 and p.numel():
        along, across = _along(p, g, u, n, lead)
        u.addcmul_(p, along, value=-1)
        decay = torch.where(across, n["wd_ratio"], p.new_ones(())) * decay
    if not is_zero(n["decay"]):
        p.mul_(1 - decay)
    add_(p, u, n["down"])


def _along(p: Tensor, g: Tensor, u: Tensor, n: Mapping[str, Scalar], lead: int) -> tuple[Tensor, Tensor]:
    """How much of ``p`` to take out of ``u``, by row, and whether the gradient is across the weight or across each row."""
    axes, rows = tuple(range(lead + 1, p.ndim)), (lead,)
    eps, size = n["eps"], p.shape[lead + 1 :].numel()
    length, steepness = (torch.linalg.vector_norm(x, dim=axes, keepdim=True) for x in (p, g))
    held = torch.mul(g, p)
    meeting = held.sum(axes, keepdim=True)
    part = torch.mul(u, p, out=held).sum(axes, keepdim=True)

    def judged(length: Tensor, steepness: Tensor, meeting: Tensor, part: Tensor, count: int) -> tuple[Tensor, Tensor]:
        cosine = meeting.abs() / (clamp_below_(length.clone(), eps) * clamp_below_(steepness, eps))
        across = cosine.amax(tuple(range(lead, p.ndim)), keepdim=True) < n["delta"] / count**0.5
        return part / (length + eps).square_(), across

    # What all rows say together, and what each says.
    long, steep = (torch.linalg.vector_norm(x, dim=rows, keepdim=True) for x in (length, steepness))
    meets, shares = (x.sum(rows, keepdim=True) for x in (meeting, part))
    of_all, all_across = judged(long, steep, meets, shares, size * p.shape[lead])
    of_row, rows_across = judged(length, steepness, meeting, part, size)
    return torch.where(rows_across, of_row, torch.where(all_across, of_all, 0.0)), rows_across | all_across


def stable_adamw_numbers(hyper: Hyper, t: int) -> Numbers:
    """AdamW's, with lr, 1 − β₂ᵗ and ε² for the size of a step."""
    n = moment_numbers(hyper, t)
    more = {"correction2": n["root"] * n["root"], "eps_square": hyper["eps"] ** 2}
    return {**n, **more, "decay": hyper["lr"] * hyper["weight_decay"]}


def stable_adamw(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """AdamW at the rate lr/max(1, rms(g/√v̂)), Adafactor's clipping (Wortsman et al. 2023, arXiv 2304.13013).

    It shortens the step after a gradient that v has not seen the like of; decay is shortened with it.
    """
    moments_(g, s, n)
    expected = clamp_below_(s["square"] / n["correction2"], n["eps_square"])
    surprise = ratio_(g * g, expected)
    clip = own_mean(surprise, lead).sqrt().clamp_(min=1.0)
    if not is_zero(n["decay"]):
        p.mul_(1 - n["decay"] / clip)
    below = sqrt_into(s["square"], surprise).add_(n["eps_root"])
    add_ratio_(p, s["mean"], below, n["down_root"] / clip)


def adafactor_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """Row and column means of the squares for a matrix (last two axes); the squares themselves for a vector."""
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
    tiny, rms_of_one = torch.finfo(p.dtype).eps, max(1, p.shape[lead:].numel()) ** 0.5
    squares = g * g
    if "square" in s:
        u = ratio_(g, s["square"].lerp_(squares, n["new2"]).clamp(min=tiny * tiny).sqrt_())
    else:
        row = s["row"].lerp_(squares.mean(-1, keepdim=True), n["new2"])
        column = s["column"].lerp_(squares.mean(-2, keepdim=True), n["new2"])
        # Roots of rows and columns are far fewer than those of their products.
        scaled = row / row.mean(-2, keepdim=True).clamp_(min=tiny)
        u = torch.mul(scaled.rsqrt_(), column.rsqrt(), out=squares).clamp_(max=1 / tiny).mul_(g)
    size = clamp_below_(norms(p, lead), n["floor"] * rms_of_one)
    longest = clamp_below_(norms(u, lead), n["threshold"] * rms_of_one)
    add_(shrink_(p, n), u, size.div_(longest).mul_(-n["relative"] * n["threshold"]))
