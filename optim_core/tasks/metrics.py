"""Metrics for K trials at once, equal to scikit-learn's for each. Everything is computed in float64.

``w``: (n,) sample weights above 0, scikit-learn's ``sample_weight``; None: each row counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from optim_core.tasks.ranked import influence, precision_values

_LEAST_CHANCE = torch.finfo(torch.float64).eps


def mean(values: Tensor, w: Tensor | None = None) -> Tensor:
    """(…, n) → (…) in float64."""
    return values.double().mean(dim=-1) if w is None else (values.double() * w).sum(dim=-1) / w.double().sum()


def accuracy(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C) scores, (n,) codes → (K,) share of rows whose highest score is their class."""
    return mean(highest(outputs) == y, w)


def balanced_accuracy(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) mean over the classes in ``y`` of the share of a class's rows that are right."""
    return recall(highest(outputs) == y, y, w)


def recall(hits: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """The same from (K, n) right or wrong."""
    weights = torch.ones_like(y, dtype=torch.float64) if w is None else w.double()
    classes = torch.bincount(y, weights)
    return (hits * (weights / classes[y])).sum(dim=-1) / (classes > 0).sum()


def highest(outputs: Tensor) -> Tensor:
    """(K, n, C) → (K, n) codes of the highest scores, the first of equal ones; several times faster than argmax."""
    return outputs.mT.max(dim=1).indices


def f1(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) macro F1 over the classes that occur in truth or prediction."""
    return f1_of_codes(highest(outputs), y, outputs.shape[-1], w)


def f1_of_codes(predicted: Tensor, y: Tensor, classes: int, w: Tensor | None = None) -> Tensor:
    """The same from (K, n) codes."""
    trials = len(predicted)
    offset = torch.arange(trials, device=y.device)[:, None] * classes**2
    pairs = (offset + y * classes + predicted).flatten()
    each = None if w is None else w.double().expand(predicted.shape).flatten()
    table = torch.bincount(pairs, each, minlength=trials * classes**2).reshape(trials, classes, classes).double()
    hit, seen = table.diagonal(dim1=1, dim2=2), table.sum(dim=1) + table.sum(dim=2)
    return (2 * hit / torch.where(seen > 0, seen, 1.0)).sum(dim=1) / (seen > 0).sum(dim=1)


def auroc(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) area under the ROC curve; for C > 2 the mean of each class against the rest.

    Probability that a row of the class outranks another row, ties counting half (Mann-Whitney), over the classes that
    ``y`` holds both with and without.
    """
    return torch.stack([influence(scores, y, w).mean() for scores in outputs])


def average_precision(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) average precision, see ``ranked.precision_values``; for C > 2 the mean of each class against the
    rest, over the classes that ``y`` holds."""
    return torch.stack([precision_values(scores, y, w).mean() for scores in outputs])


def mse(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n), (n,) → (K,) mean squared error."""
    return mean((outputs - y).square(), w)


def rmse(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n), (n,) → (K,) root of the mean squared error."""
    return mse(outputs, y, w).sqrt()


def mae(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n), (n,) → (K,) mean absolute error."""
    return mean((outputs - y).abs(), w)


def mape(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n), (n,) → (K,) mean of |error| / |target|, a share: 0.1 is ten percent. No target may be 0."""
    return mean((outputs - y).abs() / y.abs(), w)


def r2(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n), (n,) → (K,) 1 − residual / total sum of squares; a constant ``y`` gives 1 when hit exactly, else 0."""
    residual, total = mse(outputs, y, w), mean((y - mean(y, w)).square(), w)
    constant = torch.where(residual == 0, 1.0, 0.0).to(residual)
    return torch.where(total == 0, constant, 1 - residual / total.clamp(min=torch.finfo(total.dtype).tiny))


def cross_entropy(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) mean negative log-likelihood, without smoothing."""
    return mean(row_cross_entropy(outputs, y), w)


def log_loss(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(K, n, C), (n,) → (K,) the same as scikit-learn has it, see ``row_log_loss``."""
    return mean(row_log_loss(outputs, y), w)


def row_log_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K, n) negative log-likelihood of each row, a chance being at least 2⁻⁵²: at most 36.04."""
    return row_cross_entropy(outputs, y).clamp(max=-math.log(_LEAST_CHANCE))


def row_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K, n) negative log-likelihood of each row, without smoothing."""
    # Along the middle axis, where few classes take a seventh of the time.
    chances = outputs.mT.log_softmax(dim=1)
    return -chances.gather(1, y.expand(len(outputs), 1, -1)).squeeze(1)


Function = Callable[[Tensor, Tensor, Tensor | None], Tensor]
CLASSIFICATION: dict[str, Function] = {
    "accuracy": accuracy, "f1": f1, "auroc": auroc, "loss": cross_entropy, "balanced_accuracy": balanced_accuracy,
    "average_precision": average_precision, "log_loss": log_loss,
}  # fmt: skip
REGRESSION: dict[str, Function] = {"rmse": rmse, "mae": mae, "r2": r2, "loss": mse, "mape": mape}
