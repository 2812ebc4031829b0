"""What a trained network says about each row, kept so that an interval can speak of new rows. Computed in float64.

| metric | kept of each row | the metric |
|---|---|---|
| accuracy | 1 or 0: right or wrong | mean |
| loss | its loss without smoothing, of a regression in standardised units | mean |
| mae | absolute error in the target's unit | mean |
| rmse, r2 | squared error in the target's unit | root of the mean; 1 − mean / variance of the targets |
| f1 | code of the predicted class | of the counts |
| auroc | its influence value in its own run and split, see ``influence`` | mean |

Of a split with more than ``MOST_ROWS`` rows loss, mae, rmse and auroc are kept as ``BLOCKS`` means of random rows, the same
ones for every run: blocks that differ by one row at most, all moved by the little that makes their mean the mean of the
rows. Those of auroc are cut from rows ordered by class, so that nearly all hold one class, which is their target.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optim_core.tasks import metrics
from optim_core.tasks.build import Problem

MOST_ROWS, BLOCKS = 20_000, 4_096
_IN_BLOCKS = frozenset({"loss", "mae", "rmse", "auroc"})
_WITH_TARGETS = frozenset({"f1", "auroc", "r2"})
# Placements are found for at most this many (class, row) values at a time.
_CHUNK = 8_000_000


@torch.no_grad()
def row_scores(problem: Problem, outputs: Tensor, y: Tensor) -> np.ndarray:
    """(K, n, C) or (K, n, 1) finite outputs and (n,) targets → (K, rows or blocks), uint8, uint16 (many classes) or float32."""
    outputs = outputs.double()
    if problem.classes is None:
        values = _errors(problem, outputs.squeeze(-1), y.double())
    elif problem.metric == "accuracy":
        values = metrics.highest(outputs) == y
    elif problem.metric == "f1":
        values = metrics.highest(outputs)
    elif problem.metric == "auroc":
        values = torch.stack([influence(scores, y) for scores in outputs])
    else:
        values = metrics.row_cross_entropy(outputs, y)
    kept = in_blocks(values, y, problem.metric) if problem.metric in _IN_BLOCKS else values
    return _stored(kept, problem)


@torch.no_grad()
def row_targets(problem: Problem, y: Tensor) -> np.ndarray | None:
    """(n,) targets → those that go with ``row_scores``: class codes (f1, auroc), values in the target's unit (r2), or None."""
    if problem.metric not in _WITH_TARGETS:
        return None
    if problem.classes is None:
        mean, deviation = problem.y_scale
        return _stored(y.double() * deviation + mean, problem)
    return _stored(targets_of_blocks(y) if problem.metric == "auroc" else y, problem)


def influence(scores: Tensor, y: Tensor) -> Tensor:
    """(n, C) scores of one run, (n,) codes → (n,) values whose mean is the area under the ROC curve A.

    A + (n/n₁)(V₁₀ − A) of a positive row, A + (n/n₀)(V₀₁ − A) of a negative one, with V₁₀ the share of negatives below it and
    V₀₁ the share of positives above it, ties half (DeLong et al. 1988). Of more than two classes the mean over each against
    the rest, of those that ``y`` holds both with and without.
    """
    rows, classes = scores.shape
    counts = torch.bincount(y, minlength=classes)
    wanted = torch.tensor([1] if classes == 2 else range(classes), device=y.device)
    wanted = wanted[(counts[wanted] > 0) & (counts[wanted] < rows)]
    chances = scores.double().softmax(dim=-1)
    total = chances.new_zeros(rows)
    for some in wanted.split(max(1, _CHUNK // rows)):
        total += _of_classes(chances[:, some].T.contiguous(), y == some[:, None]).sum(dim=0)
    return total / len(wanted)


def _of_classes(scores: Tensor, own: Tensor) -> Tensor:
    """(c, n) scores and whether a row is positive → (c, n) influence values."""
    rows, positives = own.shape[1], own.sum(dim=1, keepdim=True).double()
    negatives = rows - positives
    # Positives below a score, ties half; the others lie behind all scores.
    up = _below(scores.masked_fill(~own, torch.inf), scores)
    down = _below(scores, scores) - up
    placed = torch.where(own, down / negatives, 1 - up / positives)
    area = (placed * own).sum(dim=1, keepdim=True) / positives
    return area + rows / torch.where(own, positives, negatives) * (placed - area)


def _below(among: Tensor, scores: Tensor) -> Tensor:
    """(c, n) each → (c, n) how many of ``among`` in the same row are below each score, ties half."""
    ordered = among.sort(dim=1).values
    left, right = (torch.searchsorted(ordered, scores, right=upto) for upto in (False, True))
    return (left + right).double() / 2


def _errors(problem: Problem, guess: Tensor, y: Tensor) -> Tensor:
    off = guess - y
    if problem.metric == "loss":
        return off.square()
    off = off * problem.y_scale[1]
    return off.abs() if problem.metric == "mae" else off.square()


def in_blocks(values: Tensor, y: Tensor, metric: str) -> Tensor:
    """(K, n) values → the same, or of more than ``MOST_ROWS`` rows (K, BLOCKS) means; of auroc each of one class."""
    if values.shape[1] <= MOST_ROWS:
        return values
    rows, counted = _blocks(y, by_class=metric == "auroc")
    means = (values[:, rows] * counted).sum(dim=-1) / counted.sum(dim=-1)
    return means + (values.mean(dim=1) - means.mean(dim=1))[:, None]


def targets_of_blocks(y: Tensor) -> Tensor:
    """(n,) codes → the same, or the class of each of the blocks that ``in_blocks`` makes for auroc."""
    if len(y) <= MOST_ROWS:
        return y
    rows, _ = _blocks(y, by_class=True)
    return y[rows[:, rows.shape[1] // 2 - 1]]


def _blocks(y: Tensor, by_class: bool) -> tuple[Tensor, Tensor]:
    """(BLOCKS, widest) rows of each block, and which of them count: blocks with a row less are filled up. A function of the
    rows alone. Wider and narrower blocks take turns, so that each class has its share of both.
    """
    rows = len(y)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0)).to(y.device)
    if by_class:
        order = order[y[order].argsort(stable=True)]
    borders = torch.arange(BLOCKS + 1, device=y.device) * rows // BLOCKS
    places = borders[:-1, None] + torch.arange(rows // BLOCKS + 1, device=y.device)
    return order[places.clamp(max=rows - 1)], places < borders[1:, None]


def _stored(values: Tensor, problem: Problem) -> np.ndarray:
    return stored(values, problem.outputs)


def stored(values: Tensor, classes: int) -> np.ndarray:
    """Numbers as float32, right or wrong as uint8, codes of so many classes as uint8 or uint16."""
    if values.is_floating_point():
        most = torch.finfo(torch.float32).max
        return values.clamp(-most, most).float().cpu().numpy()
    return values.cpu().numpy().astype(np.uint8 if values.dtype == torch.bool or classes <= 256 else np.uint16)
