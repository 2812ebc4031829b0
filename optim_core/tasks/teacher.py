"""How hard each training row is, by the loss of a linear teacher: the scorer of a curriculum."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def one_hot(x: Tensor, cardinalities: tuple[int, ...]) -> Tensor:
    """(n, d) rows whose last columns are category codes → numbers and one column a code, (n, d − c + sum(cardinalities)).

    A linear teacher can make nothing of a code as a number. Rows without codes, of any shape, stay as they are.
    """
    if not cardinalities:
        return x
    numbers = x.shape[1] - len(cardinalities)
    marks = x.new_zeros(len(x), sum(cardinalities)).scatter_(1, x[:, numbers:].long(), 1.0)
    return torch.cat([x[:, :numbers], marks], dim=1)


def difficulty(x: Tensor, y: Tensor, *, classes: bool) -> Tensor:
    """(n,) float64: cross-entropy of logistic regression, or squared error of ridge regression, both fitted to the rows.

    ``x``: (n, …) features; ``y``: (n,) class codes or numbers.
    """
    # Few studies have a curriculum; scikit-learn takes half as long to import as torch.
    from sklearn.linear_model import LogisticRegression, Ridge

    rows, goal = x.flatten(1).double().cpu().numpy(), y.cpu().numpy()
    if not classes:
        return torch.from_numpy((Ridge().fit(rows, goal).predict(rows) - goal) ** 2)
    # Optimality of the teacher does not matter, an order of rows does.
    teacher = LogisticRegression(max_iter=100, tol=1e-2).fit(rows, goal)
    column = np.searchsorted(teacher.classes_, goal)
    return torch.from_numpy(-teacher.predict_log_proba(rows)[np.arange(len(goal)), column])
