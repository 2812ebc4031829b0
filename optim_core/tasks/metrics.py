"""Metrics for K trials at once, equal to scikit-learn's for each. Everything is computed in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Ranks are found for at most this many (trial, class, row) values at a time.
_CHUNK = 8_000_000


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C) scores, (n,) codes → (K,) share of rows whose highest score is their class."""
    return (highest(outputs) == y).double().mean(dim=-1)


def highest(outputs: Tensor) -> Tensor:
    """(K, n, C) → (K, n) codes of the highest scores, the first of equal ones; several times faster than argmax."""
    return outputs.mT.max(dim=1).indices


def f1(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K,) macro F1 over the classes that occur in truth or prediction."""
    return f1_of_codes(highest(outputs), y, outputs.shape[-1])


def f1_of_codes(predicted: Tensor, y: Tensor, classes: int) -> Tensor:
    """The same from (K, n) codes."""
    trials = len(predicted)
    offset = torch.arange(trials, device=y.device)[:, None] * classes**2
    pairs = (offset + y * classes + predicted).flatten()
    table = torch.bincount(pairs, minlength=trials * classes**2).reshape(trials, classes, classes).double()
    hit, seen = table.diagonal(dim1=1, dim2=2), table.sum(dim=1) + table.sum(dim=2)
    return (2 * hit / seen.clamp(min=1)).sum(dim=1) / (seen > 0).sum(dim=1)


def auroc(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K,) area under the ROC curve; for C > 2 the mean of each class against the rest.

    Probability that a row of the class outranks another row, ties counting half (Mann-Whitney), over the classes that
    ``y`` holds both with and without.
    """
    classes = outputs.shape[-1]
    wanted = [1] if classes == 2 else list(range(classes))
    size = max(1, _CHUNK // outputs.shape[1])
    per_trial = []
    for scores in outputs:
        chances = scores.double().softmax(dim=-1)
        areas = [
            _area(chances[:, wanted[i : i + size]].T, y, wanted[i : i + size]) for i in range(0, len(wanted), size)
        ]
        per_trial.append(torch.cat(areas).nanmean())
    return torch.stack(per_trial)


def _area(scores: Tensor, y: Tensor, codes: list[int]) -> Tensor:
    """(c, n) scores of the classes ``codes`` → (c,) areas, NaN for a class without both kinds of rows."""
    scores = scores.contiguous()
    ordered = scores.sort(dim=1).values
    below = torch.searchsorted(ordered, scores, right=False)
    upto = torch.searchsorted(ordered, scores, right=True)
    ranks = (below + upto + 1).double() / 2
    own = (y == torch.tensor(codes, device=y.device)[:, None]).double()
    count = own.sum(dim=1)
    rest = own.shape[1] - count
    return ((ranks * own).sum(dim=1) - count * (count + 1) / 2) / (count * rest)


def mse(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n), (n,) → (K,) mean squared error."""
    return (outputs - y).square().mean(dim=-1)


def rmse(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n), (n,) → (K,) root of the mean squared error."""
    return mse(outputs, y).sqrt()


def mae(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n), (n,) → (K,) mean absolute error."""
    return (outputs - y).abs().mean(dim=-1)


def r2(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n), (n,) → (K,) 1 − residual / total sum of squares; a constant ``y`` gives 1 when hit exactly, else 0."""
    residual = (outputs - y).square().sum(dim=-1)
    total = (y - y.mean()).square().sum()
    constant = torch.where(residual == 0, 1.0, 0.0).to(residual)
    return torch.where(total == 0, constant, 1 - residual / total.clamp(min=torch.finfo(total.dtype).tiny))


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K,) mean negative log-likelihood, without smoothing."""
    return row_cross_entropy(outputs, y).mean(dim=-1)


def row_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """(K, n, C), (n,) → (K, n) negative log-likelihood of each row, without smoothing."""
    # Along the middle axis, where few classes take a seventh of the time.
    chances = outputs.mT.log_softmax(dim=1)
    return -chances.gather(1, y.expand(len(outputs), 1, -1)).squeeze(1)


CLASSIFICATION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy, "f1": f1, "auroc": auroc, "loss": cross_entropy,
}  # fmt: skip
REGRESSION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"rmse": rmse, "mae": mae, "r2": r2, "loss": mse}
