"""Relatives of AdamW whose second moments take little memory: CAME keeps means of rows and columns, Adam-mini of rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.adam import denominator
from optim_core.transforms.arithmetic import add_, clamp_below_, norms, ratio_, sqrt_into
from optim_core.transforms.base import Hyper, Numbers, Own, Scalar
from optim_core.transforms.decay import decoupled, shrink_


def came_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """The mean; rows and columns (last two axes) of squares and of surprises for a matrix, squares for a vector."""
    mean = torch.zeros_like(p)
    if p.ndim - lead < 2:
        return {"mean": mean, "square": torch.zeros_like(p)}
    rows, columns = torch.zeros_like(p[..., :1]), torch.zeros_like(p[..., :1, :])
    surprise = {"surprise_row": rows.clone(), "surprise_column": columns.clone()}
    return {"mean": mean, "row": rows, "column": columns, **surprise}


def came_numbers(hyper: Hyper, t: int) -> Numbers:
    """−lr, complements of the betas, both ε, the clip threshold d, decay."""
    shares = {f"new{i}": 1 - hyper[f"beta{i}"] for i in (1, 2, 3)}
    floors = {"eps1": hyper["eps1"], "eps2": hyper["eps2"], "threshold": hyper["d"]}
    return {"down": -hyper["lr"], **shares, **floors, **decoupled(hyper)}


def came(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """u = g/√v, v as Adafactor's; û = u/max(1, rms(u)/d); m averages û; p −= lr·m/√S, S from rows and columns of (û − m)².

    Luo et al. 2023 (arXiv 2307.02047), nothing corrected for its start at 0. Vectors: v itself, and p −= lr·m.
    """
    # One array serves for all that is as large as the weight: fresh memory costs as much as arithmetic.
    held = (g * g).add_(n["eps1"])
    if "square" in s:
        u = ratio_(g, sqrt_into(s["square"].lerp_(held, n["new2"]), held))
    else:
        u = _inverse_root_(s["row"], s["column"], held, n["new2"]).mul_(g)
    rms = norms(u, lead) / max(1, p.shape[lead:].numel()) ** 0.5
    u.div_(clamp_below_(rms / n["threshold"], 1.0))
    step = s["mean"].lerp_(u, n["new1"])
    if "square" not in s:
        surprise = u.sub_(step).square_().add_(n["eps2"])
        step = _inverse_root_(s["surprise_row"], s["surprise_column"], surprise, n["new3"]).mul_(step)
    add_(shrink_(p, n), step, n["down"])


def _inverse_root_(row: Tensor, column: Tensor, squares: Tensor, share: Scalar) -> Tensor:
    """1/√(R·C/mean(R)) after R and C have taken in the means of ``squares`` over columns and rows; in their place."""
    row.lerp_(squares.mean(-1, keepdim=True), share)
    column.lerp_(squares.mean(-2, keepdim=True), share)
    return torch.mul((row / row.mean(-2, keepdim=True)).rsqrt_(), column.rsqrt(), out=squares)


def _row_axes(p: Tensor, lead: int) -> tuple[int, ...]:
    """The axes that share a second moment: those of an output neuron, all of a vector."""
    return tuple(range(lead + 1 if p.ndim - lead >= 2 else lead, p.ndim))


def adam_mini_start(p: Tensor, hyper: Hyper, lead: int) -> Own:
    """The mean, and one number a row of a matrix; one for a vector."""
    axes = _row_axes(p, lead)
    shape = [1 if axis in axes else size for axis, size in enumerate(p.shape)]
    return {"mean": torch.zeros_like(p), "square": p.new_zeros(shape)}


def adam_mini(p: Tensor, g: Tensor, s: Own, n: Mapping[str, Scalar], lead: int) -> None:
    """AdamW with v = β₂v + (1 − β₂)·mean of g² over a row (Zhang et al. 2024, arXiv 2406.16793); decoupled decay.

    The authors share it within a head's rows for queries and keys, which a weight alone does not show.
    """
    axes = _row_axes(p, lead)
    squares = g * g
    s["mean"].lerp_(g, n["new1"])
    s["square"].lerp_(squares.mean(axes, keepdim=True) if axes else squares, n["new2"])
    add_(shrink_(p, n), s["mean"] / denominator(s["square"], n), n["down_root"])
