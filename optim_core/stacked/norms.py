"""Normalization of vectors and tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten

# Numbers of one trial from which its passes over memory cost more than a call of its own.
LARGE = 8192


def layer_norm(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Over the features of vectors, over the width of tokens. Ba et al. 2016 (arXiv 1607.06450)."""
    if x.ndim == 4:
        return _layer_norm_of_tokens(layer, x, context)
    module = layer.module
    assert isinstance(module, nn.LayerNorm)
    mean = x.mean(1, keepdim=True)
    normal = x - mean
    rstd = normal.square().mean(1, keepdim=True).add_(module.eps).rsqrt_()
    normal.mul_(rstd)
    weight, bias = (context.tensor(layer.names[name]).unsqueeze(-1) for name in ("weight", "bias"))
    y = torch.addcmul(bias, normal, weight)
    if context.slots is None:
        return y, None

    return y, _back_of_vectors(layer, context, normal, weight, rstd, 1)


def _layer_norm_of_tokens(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's kernel for what all trials share, the normalization; each trial's weights around it."""
    module = layer.module
    assert isinstance(module, nn.LayerNorm)
    shape = [x.shape[-1]]
    x = x.contiguous()
    if x[0].numel() >= LARGE:
        return _layer_norm_each(layer, x, context)
    normal, mean, rstd = aten.native_layer_norm(x, shape, None, None, module.eps)
    weight, bias = (context.tensor(layer.names[name])[:, None, None] for name in ("weight", "bias"))
    y = torch.addcmul(bias, normal, weight)
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(dy, (1, 2), out=slot)
        if (slot := context.slot(layer.names["weight"])) is not None:
            torch.sum(dy * normal, (1, 2), out=slot)
        if not layer.wants:
            return None
        inner = dy * weight
        return aten.native_layer_norm_backward(inner, x, shape, mean, rstd, None, None, [True, False, False])[0]

    return y, back


def _layer_norm_each(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """torch's kernel for one trial after the other, which spares several passes over memory where a trial fills the cache."""
    module = layer.module
    assert isinstance(module, nn.LayerNorm)
    names = [layer.names[name] for name in ("weight", "bias")]
    weights, biases = (context.tensor(name).unbind() for name in names)
    inputs = x.unbind() if len(x) == len(weights) else x.unbind() * len(weights)
    shape = [x.shape[-1]]
    y, moments = x.new_empty(len(weights), *x.shape[1:]), []
    # Copied while they are in the cache, and never all there twice.
    for out, own, weight, bias in zip(y.unbind(), inputs, weights, biases, strict=True):
        found, *own_moments = aten.native_layer_norm(own, shape, weight, bias, module.eps)
        out.copy_(found)
        moments.append(own_moments)
    if context.slots is None:
        return y, None
    slots = [context.slot(name) for name in names]
    wanted = [layer.wants, *(slot is not None for slot in slots)]

    def back(dy: Tensor) -> Tensor | None:
        dx = torch.empty_like(y) if layer.wants else None
        outs = [None if out is None else out.unbind() for out in (dx, *slots)]
        for i, own_dy in enumerate(dy.contiguous().unbind()):
            mean, rstd = moments[i]
            found = aten.native_layer_norm_backward(own_dy, inputs[i], shape, mean, rstd, weights[i], biases[i], wanted)
            for out, part in zip(outs, found, strict=True):
                if out is not None:
                    out[i].copy_(part)
        return dx

    return y, back


def batch_norm(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """Over the batch of vectors (K, features, n), each trial's running statistics of its own.

    Ioffe & Szegedy 2015 (arXiv 1502.03167); the running variance is the unbiased one, as in torch.
    """
    module = layer.module
    assert isinstance(module, nn.BatchNorm1d)
    weight, bias = (context.tensor(layer.names[name]).unsqueeze(-1) for name in ("weight", "bias"))
    running = [context.buffers[layer.names[name]] for name in ("running_mean", "running_var")]
    if not module.training:
        rstd = (running[1] + module.eps).rsqrt_().unsqueeze(-1)
        normal = (x - running[0].unsqueeze(-1)).mul_(rstd)
    else:
        n = x.shape[2]
        variance, mean = torch.var_mean(x, 2, correction=0, keepdim=True)
        momentum = module.momentum
        assert momentum is not None
        running[0].lerp_(mean.squeeze(-1).expand_as(running[0]), momentum)
        running[1].lerp_((variance.squeeze(-1) * (n / max(n - 1, 1))).expand_as(running[1]), momentum)
        context.buffers[layer.names["num_batches_tracked"]].add_(1)
        rstd = variance.add_(module.eps).rsqrt_()
        normal = (x - mean).mul_(rstd)
    y = torch.addcmul(bias, normal, weight)
    if context.slots is None:
        return y, None

    return y, _back_of_vectors(layer, context, normal, weight, rstd, 2 if module.training else None)


def _back_of_vectors(
    layer: Layer, context: Context, normal: Tensor, weight: Tensor, rstd: Tensor, axis: int | None
) -> Back:
    """Back through ``normal·weight + bias``, where ``normal`` has mean 0 and variance 1 over ``axis``; None: neither depends
    on the input.
    """

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(layer.names["bias"])) is not None:
            torch.sum(dy, 2, out=slot)
        if (slot := context.slot(layer.names["weight"])) is not None:
            torch.sum(dy * normal, 2, out=slot)
        if not layer.wants:
            return None
        inner = dy * weight
        if axis is not None:
            along = (inner * normal).mean(axis, keepdim=True).neg_()
            inner.sub_(inner.mean(axis, keepdim=True)).addcmul_(normal, along)
        return inner.mul_(rstd)

    return back
