"""Gradient clipping: by global norm, by value, and adaptively per unit."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.transforms.base import Layout, Params, Scalar, global_norm, per_trial
from optim_core.transforms.bundle import Bundle


def clip_by_global_norm(grads: Params, max_norm: Scalar, lead: int) -> Params:
    """g·min(1, c/(‖g‖ + 1e-6)) with ‖g‖ over all weights of a trial, as ``torch.nn.utils.clip_grad_norm_``.

    ``max_norm``: float, or (K,) tensor; infinity leaves the gradients as they are, bit for bit.
    """
    factor = (max_norm / (global_norm(list(grads.values()), lead) + 1e-6)).clamp(max=1.0)
    factor = torch.where(torch.isfinite(factor), factor, torch.ones_like(factor))
    return {name: g * per_trial(factor.to(g.device), g) for name, g in grads.items()}


def clip_by_value(grads: Params, bound: Scalar) -> Params:
    """clamp(g, −c, c), as ``torch.nn.utils.clip_grad_value_``."""
    clipped = {}
    for name, g in grads.items():
        if isinstance(g, Bundle):
            clipped[name] = g.clone().maximum_(-float(bound)).minimum_(float(bound))
            continue
        limit = torch.as_tensor(per_trial(bound, g), dtype=g.dtype, device=g.device)
        clipped[name] = torch.minimum(torch.maximum(g, -limit), limit)
    return clipped


def clip_adaptively(params: Params, grads: Params, share: Scalar, layout: Layout) -> Params:
    """Per unit (first axis of each matrix) g·min(1, λ·max(‖w‖, 1e-3)/‖g‖), not on the head (Brock et al. 2021,

    arXiv 2102.06171).
    """
    clipped = {}
    for name, g in grads.items():
        if layout.role(name, params[name]) == "head":
            clipped[name] = g
            continue
        front = layout.front(name, g)
        limit = _unit_norm(params[name], front).clamp(min=1e-3) * per_trial(share, g)
        norm = _unit_norm(g, front)
        # An infinite limit, or NaN in this trial, leaves the gradient as it is.
        clipped[name] = torch.where(norm > limit, g * (limit / norm.clamp(min=1e-6)), g)
    return clipped


def _unit_norm(x: Tensor, front: int) -> Tensor:
    """Norms per unit, shaped to broadcast: over all axes but the first of a weight's own, over everything for a vector."""
    first = front + 1 if x.ndim - front >= 2 else front
    axes = tuple(range(first, x.ndim))
    return torch.linalg.vector_norm(x, dim=axes, keepdim=True) if axes else x.abs()
