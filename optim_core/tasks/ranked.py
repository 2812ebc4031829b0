"""Areas under the ROC curve and average precision: what each row adds to a number that only the order of all rows makes.

Everything is computed in float64, a run at a time. ``w``: (n,) sample weights above 0, or None where each row counts once; of
rows that count w_i times as much the influence is w_i times as much.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Ranks are found for at most this many (class, row) values at a time.
_CHUNK = 8_000_000


def influence(scores: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(n, C) scores of one run, (n,) codes → (n,) values whose mean is the area under the ROC curve A.

    A + (n/n₁)(V₁₀ − A) of a positive row, A + (n/n₀)(V₀₁ − A) of a negative one, with V₁₀ the share of negatives below it and
    V₀₁ the share of positives above it, ties half (DeLong et al. 1988). Of more than two classes the mean over each against
    the rest, of those that ``y`` holds both with and without.
    """
    return _over_classes(scores, y, w, _areas, both=True)


def precision_values(scores: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
    """(n, C) scores of one run, (n,) codes → (n,) values whose mean is the average precision A.

    AP = Σ (R_k − R_{k−1})·P_k over falling thresholds, rows of equal scores together: the mean over a class's rows of P_j, the
    share of that class among the G_j·n rows scored as high as j or higher. With π the share of the class in all rows, a row's
    value is A + own·(P − A)/π + Σ_j (own − P_j)/(G_j·n₁), j over the class's rows that it is scored as high as: what it has
    by itself, and what it does to the precision of others (delta method; these influences sum to 0). Of more than two classes
    the mean over each against the rest, of those that ``y`` holds.
    """
    return _over_classes(scores, y, w, _precisions, both=False)


def _over_classes(
    scores: Tensor, y: Tensor, w: Tensor | None, of: Callable[[Tensor, Tensor, Tensor], Tensor], *, both: bool
) -> Tensor:
    rows, classes = scores.shape
    counts = torch.bincount(y, minlength=classes)
    wanted = torch.tensor([1] if classes == 2 else range(classes), device=y.device)
    wanted = wanted[(counts[wanted] > 0) & ((counts[wanted] < rows) if both else True)]
    chances = scores.double().softmax(dim=-1)
    weights = torch.ones(rows, dtype=torch.float64, device=y.device) if w is None else w.double()
    total = chances.new_zeros(rows)
    for some in wanted.split(max(1, _CHUNK // rows)):
        total += of(chances[:, some].T.contiguous(), y == some[:, None], weights).sum(dim=0)
    return total / len(wanted)


def _areas(scores: Tensor, own: Tensor, w: Tensor) -> Tensor:
    """(c, n) scores, whether a row is positive, (n,) weights → (c, n) influence values."""
    everything = w.sum()
    positives = (own * w).sum(dim=1, keepdim=True)
    negatives = everything - positives
    up, all_below = _below(scores, own * w, w.expand_as(scores))
    down = all_below - up
    placed = torch.where(own, down / negatives, 1 - up / positives)
    area = (placed * own * w).sum(dim=1, keepdim=True) / positives
    each = w / w.mean()
    return area + each * everything / torch.where(own, positives, negatives) * (placed - area)


def _below(scores: Tensor, *weights: Tensor) -> list[Tensor]:
    """(c, n) each → for each of ``weights`` (c, n): those of the rows below each score, ties half."""
    ordered, order = scores.sort(dim=1)
    left, right = (torch.searchsorted(ordered, scores, right=upto) for upto in (False, True))
    sums = [_sums(each.gather(1, order)) for each in weights]
    return [(each.gather(1, left) + each.gather(1, right)) / 2 for each in sums]


def _precisions(scores: Tensor, own: Tensor, w: Tensor) -> Tensor:
    """(c, n) scores, whether a row is of the class, (n,) weights → (c, n) values, see ``precision_values``."""
    everything, ordered_w = w.sum(), w.expand_as(scores)
    ordered, order = scores.sort(dim=1)
    marked, ordered_w = own.gather(1, order).double(), ordered_w.gather(1, order)
    # Where rows of a score begin in rising order, and where those of the next do.
    first, after = (torch.searchsorted(ordered, ordered, right=upto) for upto in (False, True))
    of_class = marked * ordered_w
    positives = of_class.sum(dim=1, keepdim=True)
    high = everything - _sums(ordered_w).gather(1, first)
    precision = (positives - _sums(of_class).gather(1, first)) / high
    whole = (precision * of_class).sum(dim=1, keepdim=True) / positives
    ones, theirs = (_sums(of_class * x / high).gather(1, after) for x in (1.0, precision))
    found = marked * (precision - whole) + marked * ones - theirs
    values = whole + ordered_w / w.mean() * everything / positives * found
    return torch.empty_like(values).scatter_(1, order, values)


def _sums(values: Tensor) -> Tensor:
    """(c, n) → (c, n + 1) sums of the first 0, 1, … n of them."""
    return torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))
