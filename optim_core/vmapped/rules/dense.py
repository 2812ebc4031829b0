"""Linear layers, layer norm and embeddings of K trials."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from optim_core.vmapped.rules.base import Rule, Trials, as_autocast, lowers_precision
from optim_core.vmapped.torch_private import holds


class Products(torch.autograd.Function):
    """x·wᵀ + b for (K, n, in), (K, out, in), (K, out). Gradients of weights come in the weights' own layout: autograd's own
    would be transposed, and copied.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,), (x, weight) = grads, ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if wants_x else None,
            torch.bmm(gradient.mT, x) if wants_weight else None,
            gradient.sum(1) if ctx.has_bias and wants_bias else None,
        )


class Normalised(torch.autograd.Function):
    """Layer norm of (K, n, d) with (K, d) scale and shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, mean, rstd, weight, y)
        ctx.has_bias = bias is not None
        scale = weight.unsqueeze(1)
        return y * scale if bias is None else torch.addcmul(bias.unsqueeze(1), y, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,), (x, mean, rstd, weight, y) = grads, ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        inner = None
        if wants_x:
            inner = torch.ops.aten.native_layer_norm_backward(
                gradient * weight.unsqueeze(1), x, x.shape[-1:], mean, rstd, None, None, [True, False, False]
            )[0]
        return (
            inner,
            (gradient * y).sum(1) if wants_weight else None,
            gradient.sum(1) if ctx.has_bias and wants_bias else None,
            None,
        )


def rows_of(trials: Trials, x: Tensor) -> tuple[Tensor, torch.Size]:
    """(K, n, d) rows of whatever has features last, and the axes that were folded into n."""
    inner, own = trials.raw(x)
    lead = inner.shape[1:-1] if own else inner.shape[:-1]
    if own:
        return inner.reshape(trials.count, lead.numel(), inner.shape[-1]), lead
    return inner.reshape(1, lead.numel(), inner.shape[-1]).expand(trials.count, -1, -1), lead


def linear(trials: Trials, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    (w, own), x = trials.raw(weight), as_autocast(input)
    if not own or w.ndim != 3:
        return NotImplemented
    w = as_autocast(w)
    if x.dtype != w.dtype:
        return NotImplemented
    b = None if bias is None else as_autocast(trials.wide(bias))
    x, lead = rows_of(trials, x)
    return trials.wrap(Products.apply(x, w, b).reshape(trials.count, *lead, w.shape[1]))


def layer_norm(
    trials: Trials,
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    (x, own), (w, own_weight), (b, own_bias) = trials.raw(input), trials.raw(weight), trials.raw(bias)
    known = own and own_weight and (b is None or own_bias) and x.dtype == w.dtype
    if not known or tuple(normalized_shape) != tuple(w.shape[1:]) or lowers_precision(input):
        return NotImplemented
    size = w[0].numel()
    rows = x.reshape(trials.count, -1, size)
    b = None if b is None else b.reshape(trials.count, size)
    return trials.wrap(Normalised.apply(rows, w.reshape(trials.count, size), b, eps).view(x.shape))


def embedding(
    trials: Trials,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    w, own = trials.raw(weight)
    if not own or max_norm is not None or scale_grad_by_freq or sparse:
        return NotImplemented
    size = w.shape[1]
    index = trials.wide(input)
    shared = trials.raw(input)[0]
    # An index that is out of range would find the neighbour's row.
    if shared.is_cpu and shared.numel():
        holds((shared.min() >= 0) & (shared.max() < size), "index out of range in self")
    first = torch.arange(0, trials.count * size, size, device=index.device)
    rows = index.long() + first.view(-1, *[1] * (index.ndim - 1))
    found = F.embedding(rows, w.reshape(trials.count * size, -1))
    if padding_idx is not None:
        # The padding's row gets no gradient.
        found = torch.where((index == padding_idx % size).unsqueeze(-1), found.detach(), found)
    return trials.wrap(found)


RULES: dict[Any, Rule] = {F.linear: linear, F.layer_norm: layer_norm, F.embedding: embedding}
