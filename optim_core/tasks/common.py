"""What all kinds of tasks have in common: how long a run is, and the number that a search minimises."""

from __future__ import annotations

import math

from optim_core.spec.training import Training
from optim_core.spec.trial import WORST_VALUE

# Without epochs or steps: long enough to tell optimizers apart, short enough to repeat many times.
DEFAULT_EPOCHS, MIN_DEFAULT_STEPS, MAX_DEFAULT_STEPS = 20, 200, 2000
TIE_BREAK = 1e-9


def full_horizon(training: Training, steps_per_epoch: int) -> int:
    """Optimizer steps of one full run: as asked, else 20 epochs within [200, 2000] steps."""
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return training.epochs * steps_per_epoch
    return min(max(DEFAULT_EPOCHS * steps_per_epoch, MIN_DEFAULT_STEPS), MAX_DEFAULT_STEPS)


def objective(metric: str, value: float, loss: float, *, maximise: bool, scale: float) -> float:
    """The minimised number of a trial: finite, at most ``WORST_VALUE``; the metric, and the loss where metrics are equal.

    What the loss adds is below ``TIE_BREAK``, which no two metrics of one split are apart unless they are equal: it never
    turns an order round. Errors in the target's unit are divided by its deviation, ``scale``, so that dollars and metres search
    alike.
    """
    if not (math.isfinite(value) and math.isfinite(loss)):
        return WORST_VALUE
    if metric in ("rmse", "mae"):
        value /= scale
    signed = -value if maximise else value
    above = max(loss, 0.0)
    return min(signed if metric == "loss" else signed + TIE_BREAK * above / (1 + above), WORST_VALUE)
