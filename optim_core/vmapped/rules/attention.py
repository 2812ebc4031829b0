"""Scaled dot products of K trials: the trial axis is one more axis of the batch."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from optim_core.vmapped.rules.base import Rule, Trials, lowers_precision


def attention(
    trials: Trials,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``F.scaled_dot_product_attention`` for the usual (batch, heads, tokens, width)."""
    if dropout_p > 0.0 or lowers_precision(query):
        return NotImplemented
    found = [trials.raw(x) for x in (query, key, value)]
    if not any(own for _, own in found):
        return NotImplemented
    q, k, v = (trials.wide(x) for x in (query, key, value))
    same = q.shape[:2] == k.shape[:2] == v.shape[:2] and (enable_gqa or q.shape[:-2] == k.shape[:-2] == v.shape[:-2])
    if q.ndim != 5 or k.ndim != 5 or v.ndim != 5 or not same:
        return NotImplemented
    mask, own_mask = trials.raw(attn_mask)
    if mask is not None:
        mask = _folded(mask, own_mask, q)
    y = F.scaled_dot_product_attention(
        q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
    )
    return trials.wrap(y.unflatten(0, q.shape[:2]))


def _folded(mask: Tensor, own: bool, query: Tensor) -> Tensor:
    """The mask for (K·batch, heads, tokens, tokens)."""
    if not own and (mask.ndim < 4 or mask.shape[0] == 1):
        return mask
    if own:
        mask = mask.view(len(mask), *[1] * (query.ndim - mask.ndim), *mask.shape[1:])
    return mask.expand(*query.shape[:2], *mask.shape[-3:]).flatten(0, 1)


RULES: dict[Any, Rule] = {F.scaled_dot_product_attention: attention}
