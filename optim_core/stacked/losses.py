"""Training losses of K trials and their gradients, the same as ``Problem.loss`` gives for each."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.stacked.dense import aten


def cross_entropy(scores: Tensor, y: Tensor, smoothing: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy with label smoothing: (K, classes, n) scores and (n,) or (K, n) codes → (K,), and the gradient.

    ``smoothing``: a number or (K,). The gradient is that of the sum over trials, in the shape of ``scores``.
    """
    k, classes, n = scores.shape
    logs = scores.log_softmax(1)
    # The loss is the product of the logs with these weights, so they are its gradient by the logs.
    weights = scores.new_zeros(*y.shape[:-1], classes, n).scatter_(-2, y.unsqueeze(-2), -1.0 / n)
    if isinstance(smoothing, Tensor) or smoothing != 0:
        share = torch.as_tensor(smoothing, dtype=scores.dtype, device=scores.device).view(-1, 1, 1)
        weights = weights * (1 - share) - share / (n * classes)
    losses = (logs * weights).sum((1, 2))
    return losses, aten._log_softmax_backward_data(weights.expand(k, classes, n), logs, 1, logs.dtype)


def squared_error(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error: (K, 1, n) outputs and (n,) or (K, n) targets → (K,), and the gradient (K, 1, n)."""
    apart = outputs - (y if y.ndim == 1 else y.unsqueeze(1))
    losses = apart.square().mean((1, 2))
    return losses, apart.mul_(2.0 / outputs.shape[-1])
