"""Layers that drop at random, with the numbers of the step. See ``source.Function``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from optim_core.vmapped.rnn_call import layered
from optim_core.vmapped.source import Function, Source

# From Klambauer et al. 2017: λα of SELU. Alpha dropout puts its negative in place of a dropped number.
_ALPHA = 1.7580993408473766


def _dropout(source: Source, _: Function, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False):
    if not training or p == 0.0:
        return input
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    mask = source.mask(input.shape, p, input.dtype)
    return input.mul_(mask) if inplace else input * mask


def _dropout_(source: Source, func: Function, input: Tensor, p: float, train: bool):
    return _dropout(source, func, input, p, train, True)


def _channels(shape: torch.Size) -> tuple[int, ...]:
    return (*shape[:2], *[1] * (len(shape) - 2))


def _feature_dropout(source: Source, _: Function, input: Tensor, p: float, train: bool):
    return input if not train or p == 0.0 else input * source.mask(_channels(input.shape), p, input.dtype)


def _feature_dropout_(source: Source, _: Function, input: Tensor, p: float, train: bool):
    return input if not train or p == 0.0 else input.mul_(source.mask(_channels(input.shape), p, input.dtype))


def _alpha(input: Tensor, keep: Tensor, p: float, inplace: bool) -> Tensor:
    scale = 1.0 / math.sqrt((_ALPHA**2 * p + 1.0) * (1.0 - p)) if p < 1.0 else 0.0
    factor, plus = keep * scale, (keep - 1.0) * (_ALPHA * scale) + _ALPHA * scale * p
    return input.mul_(factor).add_(plus) if inplace else input * factor + plus


def _alpha_dropout(
    source: Source, _: Function, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
):
    if not training or p == 0.0:
        return input
    return _alpha(input, source.keeps(input.shape, p).to(input.dtype), p, inplace)


def _feature_alpha_dropout(
    source: Source, _: Function, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
):
    if not training or p == 0.0:
        return input
    return _alpha(input, source.keeps(_channels(input.shape), p).to(input.dtype), p, inplace)


def _attention(
    source: Source,
    func: Function,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
):
    """``F.scaled_dot_product_attention`` with dropout, written out as its documentation does."""
    if dropout_p == 0.0:
        return NotImplemented
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = (query * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("attention: Explicit attn_mask should not be set when is_causal=True")
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    elif attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if is_bool else scores + attn_mask
    weights = scores.softmax(dim=-1)
    return (weights * source.mask(weights.shape, dropout_p, weights.dtype)) @ value


LAYERS: dict[Function, Function] = {
    F.dropout: _dropout,
    torch.dropout: _dropout,
    torch.dropout_: _dropout_,
    torch.feature_dropout: _feature_dropout,
    torch.feature_dropout_: _feature_dropout_,
    F.alpha_dropout: _alpha_dropout,
    torch.alpha_dropout: _alpha_dropout,
    F.feature_alpha_dropout: _feature_alpha_dropout,
    torch.feature_alpha_dropout: _feature_alpha_dropout,
    F.scaled_dot_product_attention: _attention,
    torch.lstm: layered,
    torch.gru: layered,
    torch.rnn_tanh: layered,
    torch.rnn_relu: layered,
}
