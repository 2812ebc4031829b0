"""Adam and its nearest relatives: a first moment over the root of a second moment, both corrected for their start at zero."""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.arithmetic import Array, add_, add_ratio_, average_squares_, choose, largest_, mix
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar, sqrt, where
from optim_core.transforms.decay import coupled, decoupled, shrink_, with_l2


def moment_numbers(hyper: Hyper, t: int) -> Numbers:
    """1 − β₁, β₂, 1 − β₂, −lr/(1 − β₁ᵗ), √(1 − β₂ᵗ), ε, and the two that let a step divide by √v + ε·√(1 − β₂ᵗ)."""
    b1, b2 = hyper["beta1"], hyper["beta2"]
    down, root = -hyper["lr"] / (1 - b1**t), sqrt(1 - b2**t)
    return {
        "new1": 1 - b1,
        "keep2": b2,
        "new2": 1 - b2,
        "down": down,
        "root": root,
        "eps": hyper["eps"],
        "down_root": down * root,
        "eps_root": hyper["eps"] * root,
    }


def coupled_numbers(hyper: Hyper, t: int) -> Numbers:
    """Those of the moments, and L2."""
    return {**moment_numbers(hyper, t), **coupled(hyper)}


def decoupled_numbers(hyper: Hyper, t: int) -> Numbers:
    """Those of the moments, and 1 − lr·wd."""
    return {**moment_numbers(hyper, t), **decoupled(hyper)}


def moments_(g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """m and v: moving averages of the gradient and of its square."""
    s["mean"].lerp_(g, n["new1"])
    average_squares_(s["square"], g, n["keep2"], n["new2"])


def denominator(second: Array, n: Mapping[str, Scalar]) -> Array:
    """√(1 − β₂ᵗ) times √(second/(1 − β₂ᵗ)) + ε: one pass less than dividing; what it divides is multiplied by the root."""
    return second.sqrt().add_(n["eps_root"])


def adam(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Kingma & Ba 2015 (arXiv 1412.6980), with coupled L2 as ``torch.optim.Adam``."""
    moments_(with_l2(p, g, n), s, n)
    add_ratio_(p, s["mean"], denominator(s["square"], n), n["down_root"])


def adamw(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Loshchilov & Hutter 2019 (arXiv 1711.05101): p *= 1 − lr·wd, then Adam. Equals ``torch.optim.AdamW``."""
    moments_(g, s, n)
    # The root while the square is in the cache, and the weight's two passes one after the other.
    root = denominator(s["square"], n)
    add_ratio_(shrink_(p, n), s["mean"], root, n["down_root"])


def amsgrad(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Reddi et al. 2018 (arXiv 1904.09237). As torch: maximum of the uncorrected v, then today's correction."""
    moments_(with_l2(p, g, n), s, n)
    add_ratio_(p, s["mean"], denominator(largest_(s["highest"], s["square"]), n), n["down_root"])


def nadamw(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """AlgoPerf's NAdamW (arXiv 2306.07179, as timm): Adam with the numerator (β₁m + (1 − β₁)g)/(1 − β₁ᵗ).

    Not ``torch.optim.NAdam``, whose momentum follows a schedule of its own.
    """
    moments_(g, s, n)
    above, root = mix(s["mean"], g, n["new1"]), denominator(s["square"], n)
    add_ratio_(shrink_(p, n), above, root, n["down_root"])


def adamax(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """u = max(β₂u, |g| + ε); p −= lr·m̂/u (Kingma & Ba 2015 §7.1, arXiv 1412.6980), as ``torch.optim.Adamax``."""
    g = with_l2(p, g, n)
    s["mean"].lerp_(g, n["new1"])
    largest_(s["infinity"].mul_(n["keep2"]), g.abs().add_(n["eps"]))
    add_ratio_(p, s["mean"], s["infinity"], n["down"])


def nadam_numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar]) -> Numbers:
    """As Adam's, with the weights of gradient and mean; ``product`` is ∏μᵢ so far, μ_t = β₁(1 − 0.96^(tψ)/2)."""

    def mu(at: int) -> Scalar:
        return hyper["beta1"] * (1 - 0.5 * 0.96 ** (at * hyper["momentum_decay"]))

    product = (last["product"] if t > 1 else 1.0) * mu(t)
    n = coupled_numbers(hyper, t)
    lr, root = hyper["lr"], n["root"]
    return {
        **n,
        "product": product,
        "on_gradient": -lr * root * (1 - mu(t)) / (1 - product),
        "on_mean": -lr * root * mu(t + 1) / (1 - product * mu(t + 1)),
    }


def nadam(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Dozat 2016 as ``torch.optim.NAdam``: p −= lr·((1 − μ_t)/(1 − P_t)·g + μ_{t+1}/(1 − P_t·μ_{t+1})·m)/(√v̂ + ε)."""
    g = with_l2(p, g, n)
    moments_(g, s, n)
    root = denominator(s["square"], n)
    add_ratio_(p, g, root, n["on_gradient"])
    add_ratio_(p, s["mean"], root, n["on_mean"])


def rectification(b2: Scalar, t: int, bound: float) -> tuple[Scalar, Scalar]:
    """RAdam's rₜ where ρₜ is above ``bound``, and whether it is (1.0 or 0.0). ρₜ: how many squares v averages."""
    limit = 2 / (1 - b2) - 1
    rho = limit - 2 * t * b2**t / (1 - b2**t)
    # Small β₂ never adapt; nothing here is used then, but nothing may divide by zero either.
    safe, top = where(rho > bound, rho, bound + 1), where(limit > bound, limit, bound + 2)
    rectified = sqrt((safe - 4) * (safe - 2) * top / ((top - 4) * (top - 2) * safe))
    return rectified, where(rho > bound, 1.0, 0.0)


def radam_numbers(hyper: Hyper, t: int) -> Numbers:
    """As Adam's, with −lr·√(1 − β₂ᵗ)·rₜ/(1 − β₁ᵗ) where ρₜ > 5, and whether it is."""
    n = coupled_numbers(hyper, t)
    rectified, beyond = rectification(hyper["beta2"], t, 5.0)
    return {**n, "adaptive": n["down"] * rectified * n["root"], "beyond": beyond}


def radam(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """Liu et al. 2020 (arXiv 1908.03265): adaptive only once the variance of 1/√v is tractable (ρₜ > 5, as torch).

    Before that the step is lr·m̂, which is plain momentum at Adam's learning rate.
    """
    moments_(with_l2(p, g, n), s, n)
    beyond = n["beyond"]
    if isinstance(beyond, float):
        if beyond:
            add_ratio_(p, s["mean"], s["square"].sqrt().add_(n["eps"]), n["adaptive"])
        else:
            add_(p, s["mean"], n["down"])
        return
    factor = choose(beyond, n["adaptive"] / s["square"].sqrt().add_(n["eps"]), n["down"])
    p.addcmul_(s["mean"], factor)
