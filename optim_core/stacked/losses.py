"""Training losses of K trials and their gradients, the same as ``Problem.loss`` gives for each."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.stacked.dense import aten


def cross_entropy(
    scores: Tensor, y: Tensor, smoothing: Tensor | float, w: Tensor | None = None, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy with label smoothing: (K, classes, n) scores and (n,) or (K, n) codes → (K,), and the gradient.

    ``smoothing``: a number or (K,). ``w``: sample weights like ``y``; ``classes``: (classes,) those of classes. The gradient is
    that of the sum over trials, in the shape of ``scores``.
    """
    k, count, n = scores.shape
    logs = scores.log_softmax(1)
    # The loss is the product of the logs with these weights, so they are its gradient by the logs.
    weights = scores.new_zeros(*y.shape[:-1], count, n)
    if w is None and classes is None:
        weights, each = weights.scatter_(-2, y.unsqueeze(-2), -1.0 / n), 1.0 / n
    else:
        rows = torch.ones_like(y, dtype=scores.dtype) if w is None else w
        own = rows if classes is None else rows * classes[y]
        whole = own.sum(-1, keepdim=True)
        weights.scatter_(-2, y.unsqueeze(-2), -(own / whole).unsqueeze(-2))
        each = (rows / whole).unsqueeze(-2) * (1.0 if classes is None else classes[:, None])
    if isinstance(smoothing, Tensor) or smoothing != 0:
        share = torch.as_tensor(smoothing, dtype=scores.dtype, device=scores.device).view(-1, 1, 1)
        weights = weights * (1 - share) - share / count * each
    losses = (logs * weights).sum((1, 2))
    return losses, aten._log_softmax_backward_data(weights.expand(k, count, n), logs, 1, logs.dtype)


def squared_error(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean squared error: (K, 1, n) outputs and (n,) or (K, n) targets → (K,), and the gradient (K, 1, n). ``w``: sample
    weights like ``y``."""
    apart = outputs - (y if y.ndim == 1 else y.unsqueeze(1))
    if w is not None:
        share = w / w.sum(-1, keepdim=True)
        shares = share if w.ndim == 1 else share.unsqueeze(1)
        return (apart.square() * shares).sum((1, 2)), apart.mul_(2.0 * shares)
    losses = apart.square().mean((1, 2))
    return losses, apart.mul_(2.0 / outputs.shape[-1])
