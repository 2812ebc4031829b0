"""Gradient clipping."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.transforms.base import Params, per_trial


def clip_by_global_norm(grads: Params, max_norm: float | Tensor, *, batched: bool) -> Params:
    """g·min(1, c/(‖g‖ + 1e-6)) with ‖g‖ over all weights of a trial, as ``torch.nn.utils.clip_grad_norm_``.

    ``max_norm``: float, or (K,) tensor when ``batched``; infinity leaves the gradients as they are, bit for bit.
    """
    axis = 1 if batched else 0
    squares = [g.flatten(axis).square().sum(axis) if g.ndim > axis else g.square() for g in grads.values()]
    norm = torch.stack(squares).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    factor = torch.where(torch.isfinite(factor), factor, torch.ones_like(factor))
    return {name: g * per_trial(factor, g) for name, g in grads.items()}
