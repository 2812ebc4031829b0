"""Linear layers, activations, dropout: what works on vectors and tokens alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from optim_core.alignment import product
from optim_core.nn.dropout import RATE, SEED, STEP, SeededDropout, factors
from optim_core.stacked.base import Back, Context, Layer, Rule

aten = torch.ops.aten


def linear(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """y = W·x + b for vectors (K, i, n), y = x·Wᵀ + b for tokens (K, batch, tokens, i)."""
    if x.ndim == 4:
        return _linear_of_tokens(layer, x, context)
    weight = context.tensor(layer.names["weight"])
    wide = _expanded(x, weight)
    # Rows that all trials share are turned around once; rows of each trial are not worth it.
    bias = context.tensor(layer.names["bias"]).unsqueeze(-1) if "bias" in layer.names else None
    y = product(weight, wide if len(x) == len(weight) else x.contiguous().expand_as(wide), bias)
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(layer.names["weight"])) is not None:
            product_into(slot, dy, wide.mT)
        if "bias" in layer.names and (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(dy, 2, out=slot)
        return product(weight.mT, dy) if layer.wants else None

    return y, back


def _linear_of_tokens(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    weight = context.tensor(layer.names["weight"])
    shape = x.shape[1:-1]
    rows = _expanded(x.flatten(1, 2), weight)
    y = product(rows, weight.mT)
    if "bias" in layer.names:
        y.add_(context.tensor(layer.names["bias"]).unsqueeze(1))
    if context.slots is None:
        return y.unflatten(1, shape), None

    def back(dy: Tensor) -> Tensor | None:
        dy = dy.flatten(1, 2)
        if (slot := context.slot(layer.names["weight"])) is not None:
            product_into(slot, dy.mT, rows)
        if "bias" in layer.names and (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(dy, 1, out=slot)
        return product(dy, weight).unflatten(1, shape) if layer.wants else None

    return y.unflatten(1, shape), back


def product_into(slot: Tensor, left: Tensor, right: Tensor) -> None:
    """slot = left·right per trial. Where matrices do not follow each other torch would multiply trial by trial."""
    if slot.is_contiguous():
        product(left, right, out=slot)
    else:
        slot.copy_(product(left, right))


def _expanded(x: Tensor, weight: Tensor) -> Tensor:
    return x if x.shape[0] == weight.shape[0] else x.expand(weight.shape[0], -1, -1)


def relu(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """max(x, 0)."""
    y = x.relu_() if layer.may_overwrite else x.relu()
    return y, _in_place(aten.threshold_backward.grad_input, y, 0) if context.slots is not None else None


def from_output(forward: Callable[[Tensor], Tensor], backward: Callable[..., Tensor]) -> Rule:
    """A rule for a function whose derivative follows from its output. ``backward`` writes into ``grad_input``."""

    def rule(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
        del layer
        y = forward(x)
        return y, _in_place(backward, y) if context.slots is not None else None

    return rule


def from_input(forward: Callable[[Tensor], Tensor], backward: Callable[..., Tensor]) -> Rule:
    """A rule for a function whose derivative follows from its input. ``backward`` writes into ``grad_input``."""

    def rule(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
        del layer
        return forward(x), _in_place(backward, x) if context.slots is not None else None

    return rule


def _in_place(backward: Callable[..., Tensor], *kept: Tensor | float) -> Back:
    return lambda dy: backward(dy, *kept, grad_input=dy)


ACTIVATIONS = {
    nn.ReLU: relu,
    nn.Tanh: from_output(torch.tanh, aten.tanh_backward.grad_input),
    nn.Sigmoid: from_output(torch.sigmoid, aten.sigmoid_backward.grad_input),
    nn.GELU: from_input(nn.functional.gelu, aten.gelu_backward.grad_input),
    nn.SiLU: from_input(nn.functional.silu, aten.silu_backward.grad_input),
}


def dropout(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """The mask of ``SeededDropout``, which counts elements in the order (batch, …features)."""
    if not layer.module.training:
        return x, (lambda dy: dy) if context.slots is not None else None
    keep = dropout_factors(layer, context, x[0].numel(), x.dtype)
    # Of vectors the batch comes last.
    keep = keep.unflatten(1, (x.shape[2], x.shape[1])).mT if x.ndim == 3 else keep.view(-1, *x.shape[1:])
    return x * keep, (lambda dy: dy * keep) if context.slots is not None else None


def dropout_factors(layer: Layer, context: Context, count: int, dtype: torch.dtype) -> Tensor:
    """(K, count): what ``SeededDropout`` multiplies ``count`` elements of each trial with."""
    assert isinstance(layer.module, SeededDropout)
    seed, step, rate = (context.buffers[layer.names[name]] for name in (SEED, STEP, RATE))
    return factors(seed, step, rate, layer.module.layer, count, dtype)
