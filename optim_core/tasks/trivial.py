"""What an answer scores that has learned nothing: the floor that every score stands on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from optim_core.tasks import metrics
from optim_core.tasks.build import Problem


def trivial_output(problem: Problem) -> Tensor:
    """(C,) or (1,): one output for every row, learned from the training targets alone.

    Classification: the most frequent class, and for losses the classes' shares; scores that are all alike have an AUROC
    of 0.5, and the class's share as average precision. Regression: the mean. The loss of a class that no training row has is
    infinite.
    """
    _, seen, w = problem.train
    if problem.classes is None:
        return metrics.mean(seen, w)[None]
    counts = torch.bincount(seen, None if w is None else w.double(), minlength=problem.outputs).double()
    shares = counts / counts.sum()
    return (
        shares.log() if problem.metric in ("loss", "log_loss") else F.one_hot(shares.argmax(), problem.outputs).double()
    )


def minority(problem: Problem) -> float | None:
    """The share of the rarest class over the rows of all splits; None for regression."""
    if problem.classes is None:
        return None
    y = torch.cat([problem.train.y, problem.validation.y, problem.test.y])
    return int(torch.bincount(y, minlength=problem.outputs).min()) / len(y)
