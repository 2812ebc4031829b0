"""Techniques around any method: what happens to gradients before it, to weights after it, and which average is kept.

Order: L1, centralization, clipping by value, adaptive clipping, clipping by norm, noise; the method; proximal L1; average.
A trial that does not use a technique of its pack has its neutral value, which changes nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optim_core.counter import GAMMA, mix, normal
from optim_core.transforms.base import (
    Hyper,
    Hypers,
    Layout,
    Params,
    Scalar,
    State,
    Transform,
    is_zero,
    never,
    per_trial,
    pure,
    smallest,
)
from optim_core.transforms.clip import clip_adaptively, clip_by_global_norm, clip_by_value

NEUTRAL: dict[str, float] = {
    "clip_norm": math.inf,
    "clip_value": math.inf,
    "agc": math.inf,
    "gradient_noise": 0.0,
    "centralize": 0.0,
    "l1": 0.0,
    "l1_proximal": 0.0,
    "ema": 0.0,
    "swa": math.inf,
}
AVERAGES = ("ema", "swa")
# ASGD has an ``average`` of its own.
AVERAGE = "averaged_weights"


def techniques_of(defaults: Mapping[str, object]) -> list[str]:
    """The techniques that a run with these hyperparameters uses."""
    return [name for name in NEUTRAL if name in defaults]


def with_techniques(method: Transform, layout: Layout, names: Sequence[str]) -> Transform:
    """``method`` with the techniques of ``NEUTRAL`` that are in ``names``; their values are among the hyperparameters.

    ``swa`` is there the step (from 1) after which averaging starts; noise needs ``noise_key``, a whole number per trial.
    """
    chosen = frozenset(names) & NEUTRAL.keys()
    if not chosen:
        return method
    around = _Around(method, layout, chosen)
    return Transform(
        around.init,
        pure(around.update_),
        around.update_,
        around.answer if around.averages else method.answer,
        around.perturb if method.perturb is not None else None,
        method.shape_free and not SHAPED & chosen,
        never if SHAPED & chosen else method.bundles,
        rest_=around.rest_ if around.averages else None,
    )


# Techniques that look at a weight's shape, role or name.
SHAPED = frozenset({"agc", "centralize", "l1", "l1_proximal", "gradient_noise"})


@dataclass(frozen=True)
class _Around:
    method: Transform
    layout: Layout
    chosen: frozenset[str]

    @property
    def averages(self) -> list[str]:
        return [name for name in AVERAGES if name in self.chosen]

    def prepared(self, params: Params, grads: Params, hypers: Hypers) -> Params:
        """The gradients that the method sees, but for noise."""
        hyper, layout = hypers[0], self.layout
        if "l1" in self.chosen:
            grads = {
                n: g + _matrix_only(hypers[layout.group(n)]["l1"], n, g, layout) * params[n].sign()
                for n, g in grads.items()
            }
        if "centralize" in self.chosen:
            grads = {n: _centralised(g, hyper["centralize"], layout.front(n, g)) for n, g in grads.items()}
        if "clip_value" in self.chosen:
            grads = clip_by_value(grads, hyper["clip_value"])
        if "agc" in self.chosen:
            grads = clip_adaptively(params, grads, hyper["agc"], layout)
        if "clip_norm" in self.chosen:
            grads = clip_by_global_norm(grads, hyper["clip_norm"], layout.lead)
        return grads

    def init(self, params: Params, hypers: Hypers) -> State:
        state = self.method.init(params, hypers)
        return {**state, AVERAGE: {n: p.clone() for n, p in params.items()}} if self.averages else state

    def update_(self, params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> None:
        grads = self.prepared(params, grads, hypers)
        if "gradient_noise" in self.chosen:
            lead, age = self.layout.lead, self.layout.age
            grads = {name: g + _noise(name, g, hypers[0], age(name, t), lead) for name, g in grads.items()}
        self.method.update_(params, grads, _own(state), hypers, t)
        if "l1_proximal" in self.chosen:
            for name, p in params.items():
                _shrink_(p, name, hypers[self.layout.group(name)], self.layout)
        if self.averages:
            self.rest_(params, state, hypers, t)

    def rest_(self, params: Params, state: State, hypers: Hypers, t: int) -> None:
        """Take the point that each weight is at into its average: of all weights at every step, those without a gradient
        too, and by the model's steps, as torch's AveragedModel does.
        """
        kept = _kept(hypers[0], self.averages, t)
        for name, p in self.method.answer(params, _own(state), hypers).items():
            old = state[AVERAGE][name]
            old.copy_(p + per_trial(kept, p) * (old - p))

    def answer(self, params: Params, state: State, hypers: Hypers) -> Params:
        plain = self.method.answer(params, _own(state), hypers)
        used = torch.zeros((), dtype=torch.bool)
        for name in self.averages:
            value = torch.as_tensor(hypers[0][name])
            used = used.to(value.device) | (value != NEUTRAL[name])
        if not self.layout.lead:
            return {n: state[AVERAGE][n] if bool(used) else p for n, p in plain.items()}
        return {n: torch.where(_mask(used, p), state[AVERAGE][n], p) for n, p in plain.items()}

    def perturb(self, params: Params, grads: Params, hypers: Hypers) -> Params:
        assert self.method.perturb is not None
        return self.method.perturb(params, self.prepared(params, grads, hypers), hypers)


def _own(state: State) -> State:
    """What the method itself remembers."""
    return {key: tensors for key, tensors in state.items() if key != AVERAGE}


def _mask(used: Tensor, like: Tensor) -> Tensor:
    flag = used.to(like.device)
    return flag.view(-1, *[1] * (like.ndim - 1)) if flag.ndim else flag


def _matrix_only(value: Scalar, name: str, p: Tensor, layout: Layout) -> Scalar:
    """The number for a weight with two axes or more, 0 for vectors and norms."""
    if p.ndim - layout.lead < 2 or layout.role(name, p) in ("norm", "vector"):
        return 0.0
    return per_trial(value, p)


def _centralised(g: Tensor, share: Scalar, front: int) -> Tensor:
    if g.ndim - front < 2:
        return g
    return g - per_trial(share, g) * g.mean(dim=tuple(range(front + 1, g.ndim)), keepdim=True)


def _noise(name: str, g: Tensor, hyper: Hyper, t: int, lead: int) -> Tensor:
    """√(η/(1 + t)^0.55)·N(0, 1), t from 0; a function of the trial's key, the step, the weight's name and the element."""
    sigma = (torch.as_tensor(hyper["gradient_noise"], dtype=torch.float64) / float(t) ** 0.55).sqrt()
    key = torch.as_tensor(hyper["noise_key"], dtype=torch.float64, device=g.device).to(torch.int64)
    # Not hash(): Python salts it per process.
    key = mix(mix(key * GAMMA + zlib.crc32(name.encode())) + torch.tensor(t, device=g.device) * GAMMA)
    drawn = normal(key, g.shape[lead:].numel()).view(g.shape).to(g.dtype)
    return per_trial(sigma.to(g.device), g) * drawn


def _shrink_(p: Tensor, name: str, hyper: Hyper, layout: Layout) -> None:
    """p = sign(p)·max(|p| − lr·λ, 0): the proximal step of λ‖p‖₁."""
    bound = _matrix_only(hyper["lr"] * hyper["l1_proximal"], name, p, layout)
    if not is_zero(bound):
        p.copy_(p.sign() * (p.abs() - bound).clamp(min=0))


def _kept(hyper: Hyper, averages: Sequence[str], t: int) -> Scalar:
    """d in a = d·a + (1 − d)·p: min(ema, (1 + t)/(10 + t)); or that of the running mean of the points after ``swa``."""
    keep: Scalar = 0.0
    if "ema" in averages:
        keep = smallest(hyper["ema"], (1 + t) / (10 + t))
    if "swa" in averages:
        since = t - torch.as_tensor(hyper["swa"], dtype=torch.float64)
        mean = torch.where(since >= 1, 1 - 1 / since.clamp(min=1), 0.0)
        keep = torch.where(torch.isfinite(since), mean, torch.as_tensor(keep, dtype=torch.float64))
    return keep
