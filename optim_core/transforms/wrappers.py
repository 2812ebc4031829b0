"""Lookahead, Cautious and SAM around any other method."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.transforms.arithmetic import add_
from optim_core.transforms.base import (
    Builder,
    Hypers,
    Layout,
    Params,
    State,
    Transform,
    global_norm,
    is_zero,
    never,
    own_mean,
    per_trial,
    pure,
)

SLOW = "slow_weights"


def lookahead(base: Builder) -> Builder:
    """Every ``lookahead_k`` steps slow += α(p − slow), p = slow (Zhang et al. 2019, arXiv 1907.08610).

    The slow weights start at the initial ones; the base keeps its own state at a sync. Evaluated at the slow weights.
    """

    def build(layout: Layout) -> Transform:
        inner = base(layout)

        def init(params: Params, hypers: Hypers) -> State:
            return {**inner.init(params, hypers), SLOW: {n: p.clone() for n, p in params.items()}}

        def update_(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
            memory = {key: tensors for key, tensors in state.items() if key != SLOW}
            inner.update_(params, grads, memory, hypers, t)
            for name, p in params.items():
                hyper, slow = hypers[layout.group(name)], state[SLOW][name]
                k, own_t = hyper["lookahead_k"], layout.age(name, t)
                due = (
                    torch.remainder(torch.full_like(k, own_t), k) == 0 if isinstance(k, Tensor) else own_t % int(k) == 0
                )
                if not isinstance(due, Tensor):
                    if due:
                        p.copy_(slow.lerp_(p, float(hyper["lookahead_alpha"])))
                elif bool(due.any()):
                    synced = slow + per_trial(hyper["lookahead_alpha"], p) * (p - slow)
                    mask = due.view(-1, *[1] * (p.ndim - 1))
                    slow.copy_(torch.where(mask, synced, slow))
                    p.copy_(torch.where(mask, synced, p))

        def answer(params: Params, state: State, hypers: Hypers) -> Params:
            del hypers
            return {name: state[SLOW][name] for name in params}

        return Transform(init, pure(update_), update_, answer, inner.perturb, inner.shape_free, inner.bundles)

    return build


def cautious(base: Builder, decoupled: bool) -> Builder:
    """Only the coordinates whose step goes along −g, enlarged by 1/max(mean(mask), 10⁻³) (Liang et al. 2024,

    arXiv 2411.16085). ``decoupled``: the base shrinks weights by itself; that part is taken out of the masked step and
    applied in front of it.
    """

    def build(layout: Layout) -> Transform:
        inner = base(layout)

        def update_(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
            own = [{**h, "weight_decay": 0.0} for h in hypers] if decoupled else hypers
            before = {name: p.clone() for name, p in params.items()}
            inner.update_(params, grads, state, own, t)
            for name, p in params.items():
                step = before[name] - p
                mask = (step * grads[name] > 0).to(p.dtype)
                scale = own_mean(mask, layout.front(name, p)).clamp(min=1e-3)
                hyper = hypers[layout.group(name)]
                wd = hyper["weight_decay"]
                shrinks = decoupled and not is_zero(wd)
                kept = before[name] * per_trial(1 - hyper["lr"] * wd, p) if shrinks else before[name]
                # NaN compares false; a diverged trial must not look healthy for it.
                p.copy_(kept - torch.where(step.isnan(), step, step * (mask / scale)))

        return inner._replace(update=pure(update_), update_=update_, shape_free=False, bundles=never, one_pass=False,
            timeless=False)  # fmt: skip

    return build


def sam(base: Builder) -> Builder:
    """The base's step with the gradient taken at p + ρ·g/‖g‖ (Foret et al. 2021, arXiv 2010.01412): two gradients a step."""

    def build(layout: Layout) -> Transform:
        inner = base(layout)

        def perturb(params: Params, grads: Params, hypers: Hypers) -> Params:
            norm = global_norm(list(grads.values()), layout.lead) + 1e-12
            return {
                name: add_(p.clone(), grads[name], per_trial(hypers[layout.group(name)]["rho"] / norm.to(p.device), p))
                for name, p in params.items()
            }

        return inner._replace(perturb=perturb)

    return build
