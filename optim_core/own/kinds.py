"""What a module's outputs mean beside its targets, and which metrics that allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from optim_core.own.losses import IGNORED, FunctionLoss, Loss, NamedLoss, OutputLoss, find_loss, named
from optim_core.own.outputs import main_output
from optim_core.spec.errors import SpecError
from optim_core.spec.metrics import METRICS_OF_TASK

# One class code a row; one score for two classes; codes at many places, or some that are ignored; several yes-or-no columns;
# one number a row; several; anything else.
Kind = Literal["classes", "binary", "tokens", "labels", "number", "numbers", "other"]
# The first is the metric where none is asked for.
METRICS: dict[Kind, tuple[str, ...]] = {
    "classes": (*METRICS_OF_TASK["classification"], "perplexity"),
    "binary": METRICS_OF_TASK["classification"],
    "tokens": ("accuracy", "loss", "perplexity"),
    "labels": ("loss", "accuracy", "f1"),
    "number": METRICS_OF_TASK["regression"],
    "numbers": ("loss", "rmse", "mae", "mape"),
    "other": ("loss",),
}
_CLOSE = 1e-4


@dataclass(frozen=True)
class Reading:
    """How outputs and targets are read by metrics: ``loss.fitted`` brings them together. ``classes``: how many, or 0."""

    kind: Kind
    loss: NamedLoss | None
    classes: int = 0


def read(loss: Loss, outputs: Any, targets: Any) -> Reading:
    """From the outputs and targets of a batch that shows what there is. A loss without a name is no reason not to know."""
    guess = loss if isinstance(loss, NamedLoss) else _guess(loss, outputs, targets)
    if guess is None:
        return Reading("other", None)
    scores, goal = guess.fitted(outputs, targets)
    if guess.name in ("cross_entropy", "nll"):
        if goal.is_floating_point():
            return Reading("other", guess)
        plain = goal.ndim == 1 and not bool((goal == IGNORED).any())
        return Reading("classes" if plain else "tokens", guess, scores.shape[-1])
    single = scores.numel() == len(scores)
    if guess.name == "bce":
        return Reading("binary", guess, 2) if single else Reading("labels", guess)
    return Reading("number" if single else "numbers", guess)


def scoring_loss(loss: Loss, outputs: Any, targets: Any) -> Loss:
    """A named loss that gives what a module's own gives, so that the rows' shares are known; else the loss itself."""
    if not isinstance(loss, OutputLoss):
        return loss
    own = loss(outputs, targets).double()
    for candidate in _alike(outputs, targets):
        try:
            same = candidate(outputs, targets).double()
        except (SpecError, RuntimeError, IndexError):
            continue
        if torch.isclose(own, same, rtol=_CLOSE, atol=_CLOSE):
            return candidate
    return loss


def _alike(outputs: Any, targets: Any) -> list[NamedLoss]:
    scores = main_output(outputs)
    if not (isinstance(scores, Tensor) and isinstance(targets, Tensor)):
        return []
    if targets.is_floating_point():
        return [NamedLoss(name) for name in ("mse", "bce", "l1", "smooth_l1")]
    return [NamedLoss("cross_entropy", axis, shifted) for axis in (-1, 1) for shifted in (False, True)] + [
        NamedLoss("bce")
    ]


def _guess(loss: FunctionLoss | OutputLoss, outputs: Any, targets: Any) -> NamedLoss | None:
    """Class codes beside as many scores are classes whatever the loss makes of them; numbers may be anything."""
    alike = scoring_loss(loss, outputs, targets)
    if isinstance(alike, NamedLoss):
        return alike
    scores = main_output(outputs)
    if not (isinstance(scores, Tensor) and isinstance(targets, Tensor)):
        return None
    try:
        if targets.is_floating_point():
            return named("mse", outputs, targets) if isinstance(outputs, Tensor) else None
        found, _ = find_loss(None, scores, targets)
    except (SpecError, RuntimeError, IndexError):
        return None
    return found if isinstance(found, NamedLoss) else None
