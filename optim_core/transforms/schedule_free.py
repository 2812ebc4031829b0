"""Schedule-Free learning (Defazio et al. 2024, arXiv 2405.15682): averaging of iterates in place of a decaying rate.

The weights that are trained are y = (1 − β)z + βx; z takes the steps, x is the average to evaluate and to keep.
"""

from __future__ import annotations

from collections.abc import Mapping

from optim_core.transforms.adam import denominator, rectification
from optim_core.transforms.arithmetic import Array, add_, average_squares_, ratio_, zeros_like
from optim_core.transforms.base import (
    Builder,
    Hyper,
    Hypers,
    Layout,
    Numbers,
    Own,
    Params,
    Scalar,
    State,
    Transform,
    is_zero,
    largest,
    per_trial,
    smallest,
    sqrt,
    where,
)
from optim_core.transforms.decay import with_l2
from optim_core.transforms.lift import CarriedNumbersOf, Rule, Start, carrying


def _warming(hyper: Hyper, t: int) -> Scalar:
    """min(1, t/warmup_steps), as the authors' ``warmup_steps``: it needs no horizon, as a schedule's fraction of it does."""
    steps = hyper.get("warmup_steps", 0.0)
    return smallest(t / where(steps > 0, steps, 1.0), 1.0)


def _numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar], beta: Scalar) -> Numbers:
    """Weight of the new z in the average: lr_max² over the sum of such weights; lr_max as the authors' code."""
    lr = hyper["lr"] * _warming(hyper, t)
    top = largest(lr, last["lr_max"])
    weights = last["weight_sum"] + top * top
    share = where(weights > 0, top * top / where(weights > 0, weights, 1.0), 0.0)
    return {
        "down": -lr,
        "lr_max": top,
        "weight_sum": weights,
        "share": share,
        "pull": lr * (beta * (1 - share) - 1),
        "l2": hyper["weight_decay"],
    }


def sgd_numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar]) -> Numbers:
    """Those of the average with β = ``momentum``."""
    return _numbers(hyper, t, last, hyper["momentum"])


def adamw_numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar]) -> Numbers:
    """Those of the average with β = β₁, and those of the second moment."""
    b2 = hyper["beta2"]
    root = sqrt(1 - b2**t)
    n = _numbers(hyper, t, last, hyper["beta1"])
    second = {"keep2": b2, "new2": 1 - b2, "eps_root": hyper["eps"] * root}
    # The direction lacks the factor ``root``, so whatever multiplies it has it.
    return {**n, **second, "down": n["down"] * root, "pull": n["pull"] * root, "l2": n["l2"] / root}


def radam_numbers(hyper: Hyper, t: int, last: Mapping[str, Scalar]) -> Numbers:
    """Those of AdamW at the rate lr·rₜ, which is 0 while ρₜ ≤ 4: the first steps only fill the second moment."""
    rectified, beyond = rectification(hyper["beta2"], t, 4.0)
    return adamw_numbers({**hyper, "lr": hyper["lr"] * where(beyond > 0, rectified, 0.0)}, t, last)


def _move_(y: Array, z: Array, direction: Array, n: Mapping[str, Scalar]) -> None:
    add_(y.lerp_(z, n["share"]), direction, n["pull"])
    add_(z, direction, n["down"])


def sgd(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """z −= lr·(g + wd·y); x = (1 − c)x + cz; y = (1 − β)z + βx."""
    _move_(p, s["z"], with_l2(p, g, n), n)


def adamw(p: Array, g: Array, s: Own, n: Mapping[str, Scalar]) -> None:
    """The same with g/(√v̂ + ε) + wd·y as the direction; there is no first moment."""
    average_squares_(s["square"], g, n["keep2"], n["new2"])
    direction = ratio_(g, denominator(s["square"], n))
    if not is_zero(n["l2"]):
        add_(direction, p, n["l2"])
    _move_(p, s["z"], direction, n)


def _start_sgd(p: Array, hyper: Hyper, lead: int) -> Own:
    return {"z": p.clone()}


def _start_adamw(p: Array, hyper: Hyper, lead: int) -> Own:
    return {"z": p.clone(), "square": zeros_like(p)}


def averaged(training: Builder, beta: str) -> Builder:
    """``training`` with x = z + (y − z)/β as its answer, β being the hyperparameter ``beta``."""

    def build(layout: Layout) -> Transform:
        def answer(params: Params, state: State, hypers: Hypers) -> Params:
            found = {}
            for name, y in params.items():
                z = state["z"][name]
                found[name] = z + (y - z) / per_trial(hypers[layout.group(name)][beta], y)
            return found

        return training(layout)._replace(answer=answer)

    return build


def _builder(start: Start, numbers: CarriedNumbersOf, rule: Rule, beta: str) -> Builder:
    return averaged(carrying(start, numbers, rule, ("lr_max", "weight_sum")), beta)


schedule_free_sgd = _builder(_start_sgd, sgd_numbers, sgd, "momentum")
schedule_free_adamw = _builder(_start_adamw, adamw_numbers, adamw, "beta1")
schedule_free_radam = _builder(_start_adamw, radam_numbers, adamw, "beta1")
