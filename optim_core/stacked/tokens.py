"""Sequences of tokens: how rows become tokens, attention among them, and their mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optim_core.nn.blocks import Attention, Mean
from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten


def image_rows(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, batch, c, h, w) → (K, batch, h, c·w)."""
    shape = x.shape

    def back(dy: Tensor) -> Tensor | None:
        return dy.unflatten(-1, (shape[2], shape[4])).transpose(2, 3) if layer.wants else None

    return x.transpose(2, 3).flatten(3), back if context.slots is not None else None


def positions(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """x + a learned vector for each place: (K, tokens, width)."""
    weight = context.tensor(layer.names["weight"]).unsqueeze(1)
    own = layer.may_overwrite and x.shape[0] == weight.shape[0]
    y = x.add_(weight) if own else x + weight
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(layer.names["weight"])) is not None:
            torch.sum(dy, 1, out=slot)
        return dy if layer.wants else None

    return y, back


def feature_tokens(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, features, batch) → (K, batch, features, width): each feature times its vector, plus another."""
    weight, bias = (context.tensor(layer.names[name]).unsqueeze(1) for name in ("weight", "bias"))
    column = x.mT.unsqueeze(-1)
    y = torch.addcmul(bias, column, weight)
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(layer.names["weight"])) is not None:
            torch.sum(dy * column, 1, out=slot)
        if (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(dy, 1, out=slot)
        return (dy * weight).sum(-1).mT if layer.wants else None

    return y, back


def mean(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Over the tokens: (K, batch, tokens, width) → (K, width, batch)."""
    assert isinstance(layer.module, Mean)
    shape = x.shape

    def back(dy: Tensor) -> Tensor:
        return (dy.mT / shape[2]).unsqueeze(2).expand(shape).contiguous()

    return x.mean(2).mT.contiguous(), back if context.slots is not None else None


def attention(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762). Children: query, key, value, out."""
    assert isinstance(layer.module, Attention)
    heads = layer.module.heads
    *inward, outward = layer.children
    parts, ways = [], []
    for child in inward:
        y, way = child.run(x, context)
        # (K·batch, heads, tokens, width per head): trials are more of the same to the kernel.
        parts.append(y.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2))
        ways.append(way)
    mixed, kernel_back = (_fused if x.device.type == "cpu" else _written_out)(*parts)
    y, back_out = outward.run(mixed.transpose(1, 2).flatten(2).unflatten(0, (-1, x.shape[1])), context)
    if context.slots is None:
        return y, None
    # Popped, so that what they keep is free once it has been used.
    kernels = [kernel_back]
    del parts, mixed, kernel_back

    def back(dy: Tensor) -> Tensor | None:
        assert back_out is not None
        of_mixed = back_out(dy)
        assert of_mixed is not None
        gradients = list(kernels.pop()(of_mixed.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2)))
        del of_mixed
        total: Tensor | None = None
        for way in reversed(ways):
            assert way is not None
            part = way(gradients.pop().transpose(1, 2).flatten(2).unflatten(0, (-1, dy.shape[1])))
            total = part if total is None or part is None else total.add_(part)
        return total

    return y, back


# Query, key, value → what attention gives, and backward to the three.
KernelBack = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def _fused(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, KernelBack]:
    """torch's kernel for CPUs, forward and back."""
    forward = aten._scaled_dot_product_flash_attention_for_cpu
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
    y, log_sums = forward(query, key, value)
    return y, lambda dy: backward(dy, query, key, value, y, log_sums, 0.0, False)


def _written_out(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, KernelBack]:
    scale = query.shape[-1] ** -0.5
    weights = (query @ key.mT).mul_(scale).softmax(-1)

    def back(dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = aten._softmax_backward_data(dy @ value.mT, weights, -1, weights.dtype).mul_(scale)
        return scores @ key, scores.mT @ query, weights.mT @ dy

    return weights @ value, back
