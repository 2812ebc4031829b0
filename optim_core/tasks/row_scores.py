"""What a trained network says about each row, kept so that an interval can speak of new rows. Computed in float64.

| metric | kept of each row | the metric |
|---|---|---|
| accuracy | 1 or 0: right or wrong | mean |
| balanced_accuracy | 1 or 0, and its class | mean over the classes of each one's mean |
| loss, log_loss | its loss without smoothing, of a regression in standardised units | mean |
| mae, mape | absolute error in the target's unit, or divided by the target | mean |
| rmse, r2 | squared error in the target's unit | root of the mean; 1 − mean / variance of the targets |
| f1 | code of the predicted class | of the counts |
| auroc, average_precision | its influence value in its own run and split, see ``ranked`` | mean |

Of a split with more than ``MOST_ROWS`` rows losses, mae, mape, rmse and auroc are kept as ``BLOCKS`` means of
random rows, the same ones for every run: blocks that differ by one row at most, all moved by the little that makes their mean
the mean of the rows. Those of auroc are cut from rows ordered by class, so that nearly all hold one class, which is their
target.

Where rows have sample weights, "mean" is the weighted one everywhere, and the weights are kept beside the targets
(``row_weights``): of blocks their means. Those of ranks are in the influence values already.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optim_core.spec.metrics import RANKED
from optim_core.tasks import metrics
from optim_core.tasks.build import Problem
from optim_core.tasks.ranked import influence, precision_values

MOST_ROWS, BLOCKS = 20_000, 4_096
_IN_BLOCKS = frozenset({"loss", "log_loss", "mae", "mape", "rmse", "auroc"})
_WITH_TARGETS = frozenset({"f1", "balanced_accuracy", "r2", *RANKED})


@torch.no_grad()
def row_scores(
    problem: Problem, outputs: Tensor, y: Tensor, w: Tensor | None = None, together: np.ndarray | None = None
) -> np.ndarray:
    """(K, n, C) or (K, n, 1) finite outputs and (n,) targets → (K, rows or blocks), uint8, uint16 (many classes) or float32.

    ``w``: (n,) sample weights, if there are any. ``together``: (n,) labels of rows that are not independent of each other;
    blocks are then cut from whole groups.
    """
    outputs = outputs.double()
    if problem.classes is None:
        values = _errors(problem, outputs.squeeze(-1), y.double())
    elif problem.metric in ("accuracy", "balanced_accuracy"):
        values = metrics.highest(outputs) == y
    elif problem.metric == "f1":
        values = metrics.highest(outputs)
    elif problem.metric in RANKED:
        of = influence if problem.metric == "auroc" else precision_values
        values = torch.stack([of(scores, y, w) for scores in outputs])
    else:
        values = (metrics.row_log_loss if problem.metric == "log_loss" else metrics.row_cross_entropy)(outputs, y)
    kept = in_blocks(values, y, problem.metric, w, together) if problem.metric in _IN_BLOCKS else values
    return _stored(kept, problem)


@torch.no_grad()
def row_targets(problem: Problem, y: Tensor, together: np.ndarray | None = None) -> np.ndarray | None:
    """(n,) targets → those that go with ``row_scores``: class codes (f1, balanced_accuracy, ranks), values in the target's unit
    (r2), or None.
    """
    if problem.metric not in _WITH_TARGETS:
        return None
    if problem.classes is None:
        mean, deviation = problem.y_scale
        return _stored(y.double() * deviation + mean, problem)
    return _stored(targets_of_blocks(y, together) if problem.metric == "auroc" else y, problem)


def row_groups(problem: Problem) -> np.ndarray | None:
    """(rows or blocks,) float32 numbers of the groups of what ``row_scores`` keeps of the test split; None without groups.

    A block has the group of its middle row: few groups lie in two.
    """
    if problem.together is None:
        return None
    y, labels = problem.test.y, problem.together["test"]
    numbers = np.unique(labels, return_inverse=True)[1].astype(np.float32)
    if problem.metric not in _IN_BLOCKS or len(y) <= MOST_ROWS:
        return numbers
    rows, _ = _blocks(y, problem.metric == "auroc", labels)
    return numbers[rows[:, rows.shape[1] // 2 - 1].cpu().numpy()]


@torch.no_grad()
def row_places(problem: Problem, split: str) -> np.ndarray | None:
    """Numbers of the rows of the ``test`` or the ``validation`` split in the data set; None where blocks of rows are stored."""
    places = None if problem.places is None else problem.places[split]
    in_blocks = places is not None and problem.metric in _IN_BLOCKS and len(places) > MOST_ROWS
    return None if in_blocks else places


def row_weights(problem: Problem, y: Tensor, w: Tensor | None, together: np.ndarray | None = None) -> np.ndarray | None:
    """(n,) targets and sample weights → those that go with ``row_scores``, float32; None where each counts as much."""
    if w is None or problem.metric in RANKED:
        return None
    return _stored(
        in_blocks(w.double()[None], y, problem.metric, together=together)[0] if problem.metric in _IN_BLOCKS else w,
        problem,
    )


def _errors(problem: Problem, guess: Tensor, y: Tensor) -> Tensor:
    off = guess - y
    if problem.metric == "loss":
        return off.square()
    mean, deviation = problem.y_scale
    off = off * deviation
    if problem.metric == "mape":
        return off.abs() / (y * deviation + mean).abs()
    return off.abs() if problem.metric == "mae" else off.square()


def in_blocks(
    values: Tensor, y: Tensor, metric: str, w: Tensor | None = None, together: np.ndarray | None = None
) -> Tensor:
    """(K, n) values → the same, or of more than ``MOST_ROWS`` rows (K, BLOCKS) means; of auroc each of one class.

    ``w``: weights of rows, which those of auroc hold already. ``together``: see ``row_scores``.
    """
    if values.shape[1] <= MOST_ROWS:
        return values
    rows, counted = _blocks(y, metric == "auroc", together)
    if w is not None and metric != "auroc":
        each = counted * w.double()[rows]
        means = (values[:, rows] * each).sum(dim=-1) / each.sum(dim=-1)
        blocks = in_blocks(w.double()[None], y, metric, together=together)[0]
        return means + (metrics.mean(values, w) - metrics.mean(means, blocks))[:, None]
    means = (values[:, rows] * counted).sum(dim=-1) / counted.sum(dim=-1)
    return means + (values.mean(dim=1) - means.mean(dim=1))[:, None]


def targets_of_blocks(y: Tensor, together: np.ndarray | None = None) -> Tensor:
    """(n,) codes → the same, or the class of each of the blocks that ``in_blocks`` makes for auroc."""
    if len(y) <= MOST_ROWS:
        return y
    rows, _ = _blocks(y, True, together)
    return y[rows[:, rows.shape[1] // 2 - 1]]


def _blocks(y: Tensor, by_class: bool, together: np.ndarray | None) -> tuple[Tensor, Tensor]:
    """(BLOCKS, widest) rows of each block, and which of them count: blocks with a row less are filled up. A function of the
    rows alone. Wider and narrower blocks take turns, so that each class has its share of both.
    """
    rows, generator = len(y), torch.Generator().manual_seed(0)
    order = torch.randperm(rows, generator=generator).to(y.device)
    if together is not None:
        numbers = torch.from_numpy(np.unique(together, return_inverse=True)[1])
        turns = torch.randperm(int(numbers.max()) + 1, generator=generator)
        order = turns[numbers].argsort(stable=True).to(y.device)
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
