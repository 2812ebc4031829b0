"""PSGD with a Kronecker product of triangular factors (Li 2018, arXiv 1512.04202; Pooladzandi & Li 2024, arXiv 2402.04553)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from optim_core.alignment import product
from optim_core.counter import normal
from optim_core.spec.optimizers.roles import triangular
from optim_core.transforms.arithmetic import add_, clamp_below_, norms
from optim_core.transforms.base import Builder, Hyper, Numbers, Own, Scalar, by_shape
from optim_core.transforms.decay import decoupled, shrink_
from optim_core.transforms.kronecker import is_due, refresh, side_shape
from optim_core.transforms.lift import of_each, per_tensor, stacking

# The rms of a preconditioned gradient should be 1; longer steps are cut to this.
LONGEST = 1.1


def _columns(x: Tensor, lead: int) -> Tensor:
    """(…, A, B): a kernel (out, in, h, w) as (out, in·h·w), a vector as one column."""
    return x.flatten(lead + 1) if x.ndim - lead >= 2 else x.reshape(*x.shape[:lead], -1, 1)


def kron_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """The mean, and for each side the identity: a triangle, or its diagonal where the side is too long or has company of 1."""
    wide = _columns(p, lead)
    found = {"mean": torch.zeros_like(p)}
    sides = ("left", "right") if p.ndim - lead >= 2 else ("left",)
    for name, size in zip(sides, wide.shape[-2:], strict=False):
        one = p.new_ones(*p.shape[:lead], size)
        found[name] = torch.diag_embed(one) if triangular(tuple(p.shape[lead:]), size) else one
    return found


def kron_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, 1 − μ and the mean's correction, the rate of the factors, whether it is their turn, the step, decay."""
    mu = hyper["momentum"]
    turn = {"due": is_due(hyper["precondition_frequency"], t), "rate": hyper["precondition_lr"]}
    return {"down": -hyper["lr"], "new1": 1 - mu, "scale": 1 / (1 - mu**t), "t": t, **turn, **decoupled(hyper)}


def kron_rule(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """u = QₗᵀQₗ·m̂·QᵣᵀQᵣ, cut to rms 1.1; p *= 1 − lr·wd; p −= lr·u.

    Each Q takes a step of relative gradient descent towards E[u·uᵀ] = I: Q −= rate·triu(ggᵀ − vvᵀ)/‖ggᵀ + vvᵀ‖·Q, with g
    the gradient turned by both Q and v normal noise turned by their inverses. The authors let the factors rest more and
    more often and draw by chance when both are made equally large; here every f-th step moves them, and nothing balances
    them, which in exact arithmetic changes nothing.
    """
    if p.numel() == 0:
        return
    mean = _columns(s["mean"].lerp_(g, n["new1"]), lead) * side_shape(n["scale"], lead)
    sides = [name for name in ("left", "right") if name in s]
    if bool(torch.as_tensor(n["due"]).any()):
        _fit(s, sides, mean, n, lead)
    for axis, name in enumerate(sides):
        mean = _turned(axis, mean, lambda x, q=s[name]: _times(q, _times(q, x), transposed=True))
    u = mean.reshape(p.shape)
    rms = norms(u, lead) / p.shape[lead:].numel() ** 0.5
    u = u / clamp_below_((rms + 1e-8) / LONGEST, 1.0)
    add_(shrink_(p, n), u, n["down"])


def _fit(s: Own, sides: list[str], mean: Tensor, n: Mapping[str, Scalar], lead: int) -> None:
    """One step of the factors that are due, from the gradient's mean."""
    count = mean.shape[-2:].numel()
    noise = normal(torch.tensor(int(n["t"]), device=mean.device), count).to(mean.dtype)
    gradient, unlike = mean, noise.view(mean.shape[-2:]).expand(mean.shape)
    for axis, name in enumerate(sides):
        gradient = _turned(axis, gradient, lambda x, q=s[name]: _times(q, x))
        unlike = _turned(axis, unlike, lambda x, q=s[name]: _over(q, x))
    tiny = torch.finfo(torch.bfloat16).tiny
    for axis, name in enumerate(sides):
        q, x, y = s[name], gradient, unlike
        if axis:
            x, y = x.mT, y.mT
        if q.ndim == lead + 1:
            first, second = x.square().sum(-1), y.square().sum(-1)
            size = (first + second).amax(-1, keepdim=True)
            new = q - (first - second) * q * (_vector_shape(n["rate"], lead) / (size + tiny))
            turn = _vector_shape(n["due"], lead)
        else:
            first, second = product(x, x.mT), product(y, y.mT)
            move = (first - second).triu() * (side_shape(n["rate"], lead) / (_norm(first + second) + tiny))
            new, turn = q - product(move, q), side_shape(n["due"], lead)
        s[name] = refresh(turn, new, q)


def _turned(axis: int, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """``act`` on the rows of ``x`` (axis 0) or on its columns."""
    return act(x.mT).mT if axis else act(x)


def _times(q: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
    """q·x or qᵀ·x; q a triangle or a diagonal."""
    if q.ndim < x.ndim:
        return q.unsqueeze(-1) * x
    return product(q.mT if transposed else q, x)


def _over(q: Tensor, x: Tensor) -> Tensor:
    """q⁻ᵀ·x."""
    if q.ndim < x.ndim:
        return x / q.unsqueeze(-1)
    # From the other side: so neither is copied into another order.
    return torch.linalg.solve_triangular(q, x.mT, upper=True, left=False).mT


def _norm(m: Tensor) -> Tensor:
    """A lower bound of a symmetric matrix's largest eigenvalue, tight within a factor: one power step from its longest row."""
    size = m.abs().amax((-2, -1), keepdim=True)
    scaled = m / torch.where(size > 0, size, 1.0)
    longest = scaled.square().sum(-1, keepdim=True).argmax(-2, keepdim=True)
    row = scaled.gather(-2, longest.expand(*m.shape[:-2], 1, m.shape[-1]))
    x = product(row, scaled)
    x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return size * torch.linalg.vector_norm(product(x, scaled), dim=-1, keepdim=True)


def _vector_shape(value: Scalar, lead: int) -> Scalar:
    return value.view(-1, 1) if isinstance(value, Tensor) and lead and value.ndim else value


kron: Builder = per_tensor(of_each(kron_start), kron_numbers, stacking(kron_rule), by_shape)
