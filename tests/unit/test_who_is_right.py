"""Eight methods of pytorch_optimizer part from ours: for each the paper's formula by hand, which ours equals, and the same
formula with the other library's departures from it, which theirs equals.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.registry import build_transform
from tests.unit.oracle_case import betas, plain
from tests.unit.test_transforms import gradient, start, with_base

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytorch_optimizer as po

STEPS = 60
# (weights, gradients, memory, settings, step from 1, whether the paper's) changes the weights in place.
Rule = Callable[[list[Tensor], list[Tensor], dict[Any, Any], dict[str, Any], int, bool], None]


def each(rule: Callable[..., None]) -> Rule:
    """A rule for one weight."""

    def of_all(ps: list[Tensor], gs: list[Tensor], s: dict[Any, Any], h: dict[str, Any], t: int, paper: bool) -> None:
        for i, (p, g) in enumerate(zip(ps, gs, strict=True)):
            rule(p, g, s.setdefault(i, {}), h, t, paper)

    return of_all


def average(s: dict[str, Any], key: str, x: Tensor, beta: float) -> Tensor:
    s[key] = beta * s.get(key, torch.zeros_like(x)) + (1 - beta) * x
    return s[key]


def moments(g: Tensor, s: dict[str, Any], h: dict[str, Any], t: int) -> tuple[Tensor, Tensor, float, float]:
    m, v = average(s, "m", g, h["beta1"]), average(s, "v", g**2, h["beta2"])
    return m, v, 1 - h["beta1"] ** t, 1 - h["beta2"] ** t


@each
def lamb(p, g, s, h, t, paper):
    """Algorithm 2 (arXiv 1904.00962). Theirs: v uncorrected, m corrected only after the ratio has taken its length out, which
    makes the first steps 1/(1 − β₁) times too long; decay outside the ratio; ‖p‖ at most 10."""
    m, v, c1, c2 = moments(g, s, h, t)
    if paper:
        u = m / c1 / ((v / c2).sqrt() + h["eps"]) + h["weight_decay"] * p
        p.sub_(h["lr"] * p.norm() / u.norm() * u)
    else:
        p.mul_(1 - h["lr"] * h["weight_decay"])
        u = m / (v.sqrt() + h["eps"])
        p.sub_(h["lr"] / c1 * p.norm().clamp(max=10) / (u.norm() + h["eps"]) * u)


@each
def lars(p, g, s, h, t, paper):
    """Algorithm 1 (arXiv 1708.03888), every layer. Theirs: vectors take plain momentum without decay at LARS's huge rate."""
    if paper or p.ndim > 1:
        wd = h["weight_decay"]
        g = h["trust_coefficient"] * p.norm() / (g.norm() + wd * p.norm() + paper * h["eps"]) * (g + wd * p)
    s["b"] = h["momentum"] * s.get("b", 0) + g
    p.sub_(h["lr"] * s["b"])


@each
def mars(p, g, s, h, t, paper):
    """Algorithm 1 (arXiv 2411.10438) starts at x₁ = x₀, so the first difference of gradients is 0; vectors: AdamW with the
    same numbers. Theirs: the gradient before the first is 0, which makes the first c 1 + γβ₁/(1 − β₁) times g; vectors have
    betas (0.9, 0.95) of their own."""
    last = s.get("g", g if paper else torch.zeros_like(g))
    s["g"] = g.clone()
    if p.ndim > 1:
        c = g + h["gamma"] * h["beta1"] / (1 - h["beta1"]) * (g - last)
        g = c / max(1.0, float(c.norm()))
    elif not paper:
        h = {**h, "beta1": 0.9, "beta2": 0.95}
    m, v, c1, c2 = moments(g, s, h, t)
    p.mul_(1 - h["lr"] * h["weight_decay"]).sub_(h["lr"] * m / c1 / ((v / c2).sqrt() + h["eps"]))


@each
def adopt(p, g, s, h, t, paper):
    """Clipped ADOPT (arXiv 2411.02853): c at k^¼, where k counts the steps that move, and the first only sets v. Theirs: c is
    one step ahead, and the first step decays the weights. (timm: k^⅓.)"""
    if t > 1 or not paper:
        p.mul_(1 - h["lr"] * h["weight_decay"])
    if t > 1:
        clip = (t - 1 if paper else t) ** 0.25
        n = (g / s["v"].sqrt().clamp(min=h["eps"])).clamp(-clip, clip)
        p.sub_(h["lr"] * average(s, "m", n, h["beta1"]))
    s["v"] = g**2 if t == 1 else h["beta2"] * s["v"] + (1 - h["beta2"]) * g**2


@each
def soap(p, g, s, h, t, paper):
    """Vectors: AdamW (arXiv 2409.11321, section 4). Theirs, as the authors' code: their first step is left out too."""
    if not paper:
        if t == 1:
            return
        t -= 1
    m, v, c1, c2 = moments(g, s, h, t)
    root = (v / c2).sqrt() + h["eps"] / (1 if paper else c2**0.5)
    p.sub_(h["lr"] * m / c1 / root)


@each
def adabound(p, g, s, h, t, paper):
    """Algorithm 1 (arXiv 1902.09843) with the authors' L2 decay. Theirs: decoupled decay unless told otherwise."""
    wd = h["weight_decay"]
    if paper:
        g = g + wd * p
    else:
        p.mul_(1 - h["lr"] * wd)
    m, v, c1, c2 = moments(g, s, h, t)
    low, high = (h["final_lr"] * x for x in (1 - 1 / (h["gamma"] * t + 1), 1 + 1 / (h["gamma"] * t)))
    p.sub_((h["lr"] * c2**0.5 / c1 / (v.sqrt() + h["eps"])).clamp(low, high) * m)


def swats(ps, gs, s, h, t, paper):
    """Algorithm 1 (arXiv 1712.07628) has one γ for all weights; a relative tolerance (the paper's absolute 1e-9 hardly ever
    holds). Theirs: a γ per tensor, and the last that has settled decides for all."""
    b1, b2, wd = h["beta1"], h["beta2"], h["weight_decay"]
    if "rate" in s:
        for i, (p, g) in enumerate(zip(ps, gs, strict=True)):
            s["b", i] = b1 * s.get(("b", i), 0) + g + wd * p
            p.sub_((1 - b1) * s["rate"] * s["b", i])
        return
    steps, grads = [], []
    for i, (p, g) in enumerate(zip(ps, gs, strict=True)):
        g = g + wd * p
        m, v, c1, c2 = moments(g, s.setdefault(i, {}), h, t)
        steps.append((-h["lr"] * c2**0.5 / c1 * m / (v.sqrt() + h["eps"])).flatten())
        grads.append(g.flatten())
        p.add_(steps[-1].view(p.shape))
    pairs = [(torch.cat(steps), torch.cat(grads))] if paper else list(zip(steps, grads, strict=True))
    for i, (step, g) in enumerate(pairs):
        gamma = step @ step / -(step @ g)
        mean = average(s, f"mean{i}", gamma, b2) / (1 - b2**t)
        far = abs(mean - gamma) >= (h["tolerance"] * abs(gamma) if paper else 1e-8 + h["eps"] * abs(gamma))
        if t > 1 and mean > 0 and not far:
            s["rate"] = float(mean)


@each
def laprop(p, g, s, h, t, paper):
    """Algorithm 1 (arXiv 2002.04839): √(v/c₂) + ε. Theirs: (√v + ε)/√c₂, which is 30 times ε at first."""
    v, c2 = average(s, "v", g**2, h["beta2"]), 1 - h["beta2"] ** t
    root = (v / c2).sqrt() + h["eps"] if paper else (v.sqrt() + h["eps"]) / c2**0.5
    p.sub_(h["lr"] * average(s, "m", g / root, h["beta1"]) / (1 - h["beta1"] ** t)).mul_(
        1 - h["lr"] * h["weight_decay"]
    )


class Dispute(NamedTuple):
    """``differs``: how far the two are apart after 60 steps at least."""

    rule: Rule
    theirs: Callable[[list[Tensor], dict[str, Any]], Any]
    settings: dict[str, Any]
    differs: float
    shapes: dict[str, tuple[int, ...]] = {"matrix": (4, 3), "vector": (5,)}


def _adam_like(cls: Any, *more: str, **fixed: Any) -> Callable[[list[Tensor], dict[str, Any]], Any]:
    return lambda p, h: cls(p, betas=betas(h), foreach=False, **plain(h, "lr", "eps", "weight_decay", *more), **fixed)


DISPUTES = {
    "lamb": Dispute(lamb, _adam_like(po.Lamb), {"weight_decay": 0.1}, 0.01),
    "lars": Dispute(
        lars,
        lambda p, h: po.LARS(p, foreach=False, **plain(h, "lr", "momentum", "weight_decay", "trust_coefficient")),
        {"weight_decay": 0.01},
        1.0,
    ),
    "mars": Dispute(mars, _adam_like(po.MARS, "gamma", lr_1d=3e-3, weight_decay_1d=0.01), {}, 1e-3),
    "adopt": Dispute(adopt, _adam_like(po.ADOPT, weight_decouple=True), {"weight_decay": 0.1}, 1e-5),
    "soap": Dispute(
        soap, lambda p, h: po.SOAP(p, betas=betas(h), **plain(h, "lr", "eps", "weight_decay")), {"weight_decay": 0.0},
        1e-3, {"vector": (5,)},
    ),
    "adabound": Dispute(adabound, _adam_like(po.AdaBound, "final_lr", "gamma"), {"weight_decay": 0.1}, 1e-4),
    "swats": Dispute(
        swats,
        _adam_like(po.SWATS, weight_decouple=False),
        {"lr": 0.03, "eps": 0.3, "tolerance": 0.3, "beta2": 0.8, "weight_decay": 0.05},
        1e-3,
    ),
    "laprop": Dispute(laprop, _adam_like(po.LaProp), {"eps": 1e-2, "weight_decay": 0.1}, 1e-4),
}  # fmt: skip


@pytest.mark.parametrize("name", DISPUTES)
def test_ours_is_the_papers_and_theirs_parts_from_it_for_the_named_reason(name: str) -> None:
    dispute = DISPUTES[name]
    shapes, h = dispute.shapes, {**OPTIMIZERS[name].defaults(), **dispute.settings}
    transform, hypers = build_transform(name), [with_base(h)]
    ours = start(0, shapes=shapes)
    state = transform.init(ours, hypers)
    paper, named, theirs = ([p.clone() for p in ours.values()] for _ in range(3))
    optimizer = dispute.theirs([p.requires_grad_() for p in theirs], h)
    memories: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})

    def grads(ps: list[Tensor], t: int) -> list[Tensor]:
        # Small enough for MARS not to cut every one of them.
        found = gradient({n: p.detach() for n, p in zip(shapes, ps, strict=True)}, t, shapes)
        return [0.1 * g for g in found.values()]

    for t in range(1, STEPS + 1):
        dispute.rule(paper, grads(paper, t), memories[0], h, t, True)
        dispute.rule(named, grads(named, t), memories[1], h, t, False)
        for p, g in zip(theirs, grads(theirs, t), strict=True):
            p.grad = g
        optimizer.step()
        own = dict(zip(shapes, grads(list(ours.values()), t), strict=True))
        ours, state = transform.update(ours, own, state, hypers, t)
        for mine, right, reason, other in zip(ours.values(), paper, named, theirs, strict=True):
            torch.testing.assert_close(mine, right, rtol=0, atol=1e-9)
            torch.testing.assert_close(other.detach(), reason, rtol=0, atol=1e-7)
    assert max(float((a - b).abs().max()) for a, b in zip(paper, named, strict=True)) > dispute.differs
