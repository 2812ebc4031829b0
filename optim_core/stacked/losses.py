"""Training losses of K trials and their gradients, the same as ``Problem.loss`` gives for each."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(scores: Tensor, y: Tensor, smoothing: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy with label smoothing: (K, classes, n) scores and (n,) or (K, n) codes → (K,), and the gradient.

    ``smoothing``: a number or (K,). The gradient is that of the sum over trials, in the shape of ``scores``.
    """
    k, classes, n = scores.shape
    logs = scores.log_softmax(1)
    target = y.expand(k, n).unsqueeze(1)
    hit = logs.gather(1, target).squeeze(1)
    if isinstance(smoothing, float) and smoothing == 0:
        losses = hit.sum(1).mul_(-1.0 / n)
        return losses, logs.exp_().mul_(1.0 / n).scatter_(1, target, -1.0 / n, reduce="add")
    share = torch.as_tensor(smoothing, dtype=scores.dtype, device=scores.device).expand(k)
    losses = -((1 - share) * hit.mean(1) + share * logs.mean((1, 2)))
    gradient = logs.exp_().mul_(1.0 / n).sub_((share / (n * classes)).view(k, 1, 1))
    gradient.scatter_add_(1, target, (-(1 - share) / n).view(k, 1, 1).expand(k, 1, n))
    return losses, gradient


def squared_error(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error: (K, 1, n) outputs and (n,) or (K, n) targets → (K,), and the gradient (K, 1, n)."""
    apart = outputs - (y if y.ndim == 1 else y.unsqueeze(1))
    losses = apart.square().mean((1, 2))
    return losses, apart.mul_(2.0 / outputs.shape[-1])
