"""How hard each training row is, by the loss of a linear teacher: the scorer of a curriculum."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor


def difficulty(x: Tensor, y: Tensor, *, classes: bool) -> Tensor:
    """(n,) float64: cross-entropy of logistic regression, or squared error of ridge regression, both fitted to the rows.

    ``x``: (n, …) features; ``y``: (n,) class codes or numbers.
    """
    rows, goal = x.flatten(1).double().cpu().numpy(), y.cpu().numpy()
    if not classes:
        return torch.from_numpy((Ridge().fit(rows, goal).predict(rows) - goal) ** 2)
    # Optimality of the teacher does not matter, an order of rows does.
    teacher = LogisticRegression(max_iter=100, tol=1e-2).fit(rows, goal)
    column = np.searchsorted(teacher.classes_, goal)
    return torch.from_numpy(-teacher.predict_log_proba(rows)[np.arange(len(goal)), column])
