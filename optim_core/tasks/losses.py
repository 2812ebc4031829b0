"""What networks of a table are trained by: the mean loss of a batch, of rows and classes that may weigh more or less.

A weighted mean is Σ w·loss / Σ w over the batch, as in ``torch.nn.functional``. A row weighs its sample weight times that of
its class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def class_loss(
    outputs: Tensor, y: Tensor, smoothing: float | Tensor, w: Tensor | None = None, classes: Tensor | None = None
) -> Tensor:
    """(…, B, C) scores, (…, B) codes → () mean cross-entropy with label smoothing. Runs under vmap.

    ``w``: (…, B) sample weights; ``classes``: (C,) those of classes. Smoothing gives a share to every class, which weighs as
    the class does (torch's ``cross_entropy`` with ``weight`` and ``label_smoothing``).
    """
    if w is None and classes is None and not isinstance(smoothing, Tensor):
        return F.cross_entropy(outputs, y, label_smoothing=smoothing)
    logs = outputs.log_softmax(-1)
    each = torch.ones_like(logs[..., 0]) if w is None else w
    hit, whole = logs.gather(-1, y.unsqueeze(-1)).squeeze(-1), logs.sum(-1)
    own = each
    if classes is not None:
        own, whole = each * classes[y], (logs * classes).sum(-1)
    mixed = (1 - smoothing) * own * hit + smoothing * each * whole / outputs.shape[-1]
    return -mixed.sum() / own.sum()


def number_loss(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(…, B, 1) predictions, (…, B) targets → () mean squared error; ``w``: (…, B) sample weights."""
    squares = (outputs.squeeze(-1) - y).square()
    return squares.mean() if w is None else (squares * w).sum() / w.sum()
