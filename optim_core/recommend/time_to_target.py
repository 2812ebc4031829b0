"""How soon a configuration has what default AdamW has at its end: time to target, as in AlgoPerf (arXiv 2306.07179)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optim_core.recommend.history import excluded_seeds
from optim_core.spec.recommendation import TimeToTarget
from optim_core.spec.trial import Configuration, CurvePoint, StudyView


def time_to_target(view: StudyView, one: Configuration, default: Configuration, sign: int) -> TimeToTarget | None:
    """Steps after which ``one`` has on average what ``default`` has after all of them, in their runs of the confirmation.

    Both are means over runs on the same folds and seeds; between two evaluations a straight line. None where ``one`` is
    ``default``, where a run of either diverged, and where it never gets there.
    """
    if one == default:
        return None
    mine, theirs = _curves(view, one), _curves(view, default)
    if mine is None or theirs is None:
        return None
    steps, values = mine
    target = float(theirs[1][-1])
    at = _reached(steps, sign * values, sign * target)
    return None if at is None else TimeToTarget(target=target, steps=round(at), of=int(steps[-1]))


def _curves(view: StudyView, wanted: Configuration) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(steps, mean metric) of the configuration's confirmation runs."""
    found: list[Sequence[CurvePoint]] = []
    left_out = excluded_seeds(view)
    for unit in view.units:
        if unit.spec.kind == "confirm" and unit.result is not None:
            numbers = {t.number for t in unit.spec.trials if t.configuration == wanted and t.seed not in left_out}
            found += [result.curve for result in unit.result.trials if result.number in numbers]
    if not found or any(not curve or any(p.value is None for p in curve) for curve in found):
        return None
    # A person's own loop may report whenever it likes.
    if any([p.step for p in curve] != [p.step for p in found[0]] for curve in found):
        return None
    values = np.array([[float(p.value or 0.0) for p in curve] for curve in found])
    return np.array([float(p.step) for p in found[0]]), values.mean(0)


def _reached(steps: NDArray[np.float64], values: NDArray[np.float64], target: float) -> float | None:
    """The first step at which ``values`` is at least ``target``; from the first evaluation on, before that nothing is known."""
    over = np.flatnonzero(values >= target)
    if not len(over):
        return None
    i = int(over[0])
    if i == 0:
        return float(steps[0])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
