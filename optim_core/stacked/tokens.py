"""Sequences of tokens: how rows become tokens, attention among them, and their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.norms import softmax_back
from optim_core.tasks.blocks import Attention, Mean


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
    heads, size = layer.module.heads, x.shape
    scale = (size[-1] // heads) ** -0.5
    *inward, outward = layer.children

    def split(y: Tensor) -> Tensor:
        """(K, batch, tokens, width) → (K·batch·heads, tokens, width per head)."""
        return y.unflatten(-1, (heads, -1)).transpose(2, 3).flatten(0, 2)

    def merge(y: Tensor) -> Tensor:
        return y.unflatten(0, (-1, size[1], heads)).transpose(2, 3).flatten(3)

    runs = [child.run(x, context) for child in inward]
    query, key, value = (split(y) for y, _ in runs)
    weights = torch.bmm(query, key.mT).mul_(scale).softmax(-1)
    y, back_out = outward.run(merge(torch.bmm(weights, value)), context)
    if context.slots is None:
        return y, None
    assert back_out is not None

    def back(dy: Tensor) -> Tensor | None:
        mixed = back_out(dy)
        assert mixed is not None
        mixed = split(mixed)
        of_value = torch.bmm(weights.mT, mixed)
        scores = softmax_back(torch.bmm(mixed, value.mT), weights).mul_(scale)
        gradients = torch.bmm(scores, key), torch.bmm(scores.mT, query), of_value
        total: Tensor | None = None
        for (_, way), gradient in zip(runs, gradients, strict=True):
            assert way is not None
            part = way(merge(gradient))
            total = part if total is None or part is None else total.add_(part)
        return total

    return y, back
