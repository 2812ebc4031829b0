"""What all kinds of tasks have in common: the number that a search minimises."""

from __future__ import annotations

import math

from optim_core.spec.metrics import IN_UNIT
from optim_core.spec.trial import WORST_VALUE

TIE_BREAK = 1e-9


def objective(metric: str, value: float, loss: float, *, maximise: bool, scale: float) -> float:
    """The minimised number of a trial: finite, at most ``WORST_VALUE``; the metric, and the loss where metrics are equal.

    What the loss adds is below ``TIE_BREAK``, which no two metrics of one split are apart unless they are equal: it never
    turns an order round. Errors in the target's unit are divided by its deviation, ``scale``, so that dollars and metres search
    alike.
    """
    if not (math.isfinite(value) and math.isfinite(loss)):
        return WORST_VALUE
    if metric in IN_UNIT:
        value /= scale
    signed = -value if maximise else value
    above = max(loss, 0.0)
    return min(signed if metric == "loss" else signed + TIE_BREAK * above / (1 + above), WORST_VALUE)
