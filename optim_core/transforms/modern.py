"""Later relatives of AdamW, each changing one thing: what is averaged, in which order, or against what."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

from torch import Tensor

from optim_core.transforms.adam import decoupled_numbers, denominator, moments_
from optim_core.transforms.arithmetic import (
    Array,
    add_,
    add_ratio_,
    average_squares_,
    clamp_,
    clamp_below_,
    norms,
    ratio_,
)
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, smallest, sqrt, where
from optim_core.transforms.decay import decoupled, shrink_


def adabelief(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """AdamW with s = β₂s + (1 − β₂)(g − m)² + ε in place of v (Zhuang et al. 2020, arXiv 2010.07468; not rectified)."""
    s["mean"].lerp_(g, n["new1"])
    surprise = g - s["mean"]
    average_squares_(s["square"], surprise, n["keep2"], n["new2"]).add_(n["eps"])
    root = denominator(s["square"], n)
    add_ratio_(shrink_(p, n), s["mean"], root, n["down_root"])


def laprop_numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar]) -> Numbers:
    """As AdamW's; ``rate`` is the moving average of lr that corrects the mean, as timm's ``exp_avg_lr_1``."""
    b1, lr = hyper["beta1"], hyper["lr"]
    rate = (last["rate"] * b1 if t > 1 else 0.0) + (1 - b1) * lr
    # At lr = 0 before any other rate there is nothing to correct and nothing to move.
    correction = where(rate > 0, -lr / where(rate > 0, rate, 1.0), 0.0)
    n = decoupled_numbers(hyper, t)
    return {**n, "keep1": b1, "inner": lr * (1 - b1) * n["root"], "rate": rate, "correction": correction}


def laprop(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """m = β₁m + (1 − β₁)·lr·g/(√v̂ + ε); p −= m/(1 − β₁ᵗ); p *= 1 − lr·wd (Liu et al. 2020, arXiv 2002.04839)."""
    average_squares_(s["square"], g, n["keep2"], n["new2"])
    add_ratio_(s["mean"].mul_(n["keep1"]), g, denominator(s["square"], n), n["inner"])
    shrink_(add_(p, s["mean"], n["correction"]), n)


def adan_numbers(hyper: Hyper, t: int) -> Numbers:
    """Betas and their complements, step sizes with their corrections, and 1/(1 + lr·wd)."""
    b1, b2, b3, lr = hyper["beta1"], hyper["beta2"], hyper["beta3"], hyper["lr"]
    root = sqrt(1 - b3**t)
    return {
        "new1": 1 - b1, "keep2": b2, "new2": 1 - b2, "keep3": b3, "new3": 1 - b3,
        "on_mean": -lr * root / (1 - b1**t), "on_change": -lr * root * b2 / (1 - b2**t),
        "eps_root": hyper["eps"] * root, "keep": 1 / (1 + lr * hyper["weight_decay"]), "changed": 0.0 if t == 1 else 1.0,
    }  # fmt: skip


def adan(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """d = g − g₋₁; m, n, q average g, d and (g + β₂d)²; p = (p − lr·(m̂ + β₂n̂)/(√q̂ + ε))/(1 + lr·wd).

    Xie et al. 2022 (arXiv 2208.06677), with betas as keep rates and the proximal decay of timm's Adan; d = 0 at first.
    """
    if n["changed"] == 0:
        s["previous"].copy_(g)
    change = s["previous"].mul_(-1).add_(g)
    s["mean"].lerp_(g, n["new1"])
    s["change"].lerp_(change, n["new2"])
    ahead = change.mul_(n["keep2"]).add_(g)
    average_squares_(s["square"], ahead, n["keep3"], n["new3"])
    root = denominator(s["square"], n)
    add_ratio_(p, s["mean"], root, n["on_mean"])
    add_ratio_(p, s["change"], root, n["on_change"])
    shrink_(p, n)
    s["previous"].copy_(g)


def ademamix_numbers(hyper: Hyper, t: int) -> Numbers:
    """As AdamW's, with α and 1 − β₃ of this step; both grow over ``t_alpha_beta3`` steps (0: at once)."""
    b1, b3, alpha, horizon = hyper["beta1"], hyper["beta3"], hyper["alpha"], hyper["t_alpha_beta3"]
    share = smallest(t / where(horizon > 0, horizon, 1.0), 1.0)
    # β₁ = 0 remembers nothing: the shortest half-life there is.
    log1, log3 = (x.log() if isinstance(x, Tensor) else log(max(x, 1e-300)) for x in (b1, b3))
    mixed = log1 * log3 / ((1 - share) * log3 + share * log1)
    grown = smallest(mixed.exp() if isinstance(mixed, Tensor) else exp(mixed), b3)
    n = decoupled_numbers(hyper, t)
    return {
        **n,
        "new3": 1 - where(horizon > 0, grown, b3),
        "slow": -hyper["lr"] * n["root"] * where(horizon > 0, alpha * share, alpha),
    }


def ademamix(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """AdamW with the numerator m̂ + α·s, s a second, slow mean with β₃ (Pagliardini et al. 2024, arXiv 2409.03137)."""
    moments_(g, s, n)
    s["slow"].lerp_(g, n["new3"])
    root = denominator(s["square"], n)
    add_ratio_(shrink_(p, n), s["mean"], root, n["down_root"])
    add_ratio_(p, s["slow"], root, n["slow"])


def adopt_numbers(hyper: Hyper, t: int) -> Numbers:
    """Betas, the clip (t − 1)^(1/4) of the authors, −lr and decay; at the first step nothing moves."""
    b1, b2 = hyper["beta1"], hyper["beta2"]
    first = t == 1
    return {
        "new1": 0.0 if first else 1 - b1,
        "keep2": 0.0 if first else b2,
        "new2": 1.0 if first else 1 - b2,
        "down": hyper["lr"] * (0.0 if first else -1.0),
        "clip": (t - 1) ** 0.25,
        "eps": hyper["eps"],
        "keep": 1.0 if first else decoupled(hyper)["keep"],
    }


def adopt(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """n = clip(g/max(√v, ε), ±c_t); m = β₁m + (1 − β₁)n; p −= lr·m; then v is updated (Taniguchi et al. 2024,

    arXiv 2411.02853): the gradient is divided by a v that has not seen it. The first step only sets v = g².
    """
    clip = float(n["clip"])
    root = clamp_below_(s["square"].sqrt(), n["eps"])
    average_squares_(s["square"], g, n["keep2"], n["new2"])
    s["mean"].lerp_(clamp_(ratio_(g, root), -clip, clip), n["new1"])
    add_(shrink_(p, n), s["mean"], n["down"])


def mars_numbers(hyper: Hyper, t: int) -> Numbers:
    """As AdamW's, with −γβ₁/(1 − β₁) and 1 more than that number, which are 0 and 1 at the first step."""
    b1 = hyper["beta1"]
    correct = 0.0 if t == 1 else hyper["gamma"] * b1 / (1 - b1)
    return {**decoupled_numbers(hyper, t), "on_old": correct * -1.0, "on_new": 1 + correct}


def mars(p: Array, g: Array, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """AdamW on c/max(1, ‖c‖), c = g + γβ₁/(1 − β₁)·(g − g₋₁) (Yuan et al. 2024, arXiv 2411.10438; approximate form)."""
    c = add_(s["previous"].mul_(n["on_old"]), g, n["on_new"])
    c.div_(clamp_below_(norms(c, lead), 1.0))
    moments_(c, s, n)
    root = denominator(s["square"], n)
    add_ratio_(shrink_(p, n), s["mean"], root, n["down_root"])
    s["previous"].copy_(g)


def sophia_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, complements of the betas, γ, ε, decay."""
    b2 = hyper["beta2"]
    shares = {"new1": 1 - hyper["beta1"], "keep2": b2, "new2": 1 - b2}
    return {"down": -hyper["lr"], **shares, "gamma": hyper["gamma"], "eps": hyper["eps"], **decoupled(hyper)}


def sophia(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """m, h average g and g²; p *= 1 − lr·wd; p −= lr·clip(m/max(γh, ε), ±1) (Liu et al. 2023, arXiv 2305.14342).

    g² of the mini-batch stands for the curvature (the paper's E-F variant): Gauss–Newton–Bartlett wants a second backward
    pass with labels drawn from the model, Hutchinson a derivative of the gradient; neither is in a step's gradients. So h
    is renewed at every step at no cost, not at every tenth. γ holds the batch size: the authors' ρ·B.
    """
    s["mean"].lerp_(g, n["new1"])
    curvature = average_squares_(s["square"], g, n["keep2"], n["new2"]) * n["gamma"]
    step = clamp_(ratio_(s["mean"], clamp_below_(curvature, n["eps"])), -1.0, 1.0)
    add_(shrink_(p, n), step, n["down"])
