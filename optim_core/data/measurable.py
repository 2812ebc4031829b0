"""Whether a metric says something about these targets: refused where undefined, a better one named where it says little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optim_core.data.split import SplitRows, of_one_class
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
from optim_core.spec.metrics import IMBALANCED, OF_IMBALANCED

# Targets are kept in float32, in standard deviations: of one nearer to 0 than this share of them no relative error is known.
_LEAST_TARGET = 1e-6


def check_measurable(metric: str, values: np.ndarray, classes: list[str] | None, splits: Sequence[SplitRows]) -> None:
    """``values``: (n,) class codes, or numbers in the target's unit. Raises DataError ``split_too_small`` for ranks where the
    test rows of a fold hold one class alone, ``metric_undefined`` for a relative error of 0.
    """
    undefined = of_one_class(metric, values, splits)
    if undefined is not None:
        raise undefined
    if metric == "mape":
        near = int((np.abs(values) <= _LEAST_TARGET * values.std()).sum())
        if near:
            message = f"mape is undefined where the target is 0, as in {plural(near, 'row')}: take mae or rmse"
            raise DataError(message, code="metric_undefined", pointer="/metric")


def imbalance(metric: str, values: np.ndarray, classes: list[str] | None) -> list[str]:
    """What accuracy would be without a model, where one class has most rows, and which metrics to consider."""
    if classes is None or metric != "accuracy":
        return []
    counts = np.bincount(values, minlength=len(classes))
    share = float(counts.max() / counts.sum())
    if share < IMBALANCED:
        return []
    return [
        f"Accuracy of always saying {show(classes[int(counts.argmax())])}: {share:.3g}; consider the metric "
        f"{' or '.join(OF_IMBALANCED)}."
    ]
