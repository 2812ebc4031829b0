"""``training.class_weights``: what each class weighs in the training loss, checked against the classes that are there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optim_core.data.text import show, show_some
from optim_core.spec.errors import DataError
from optim_core.spec.names import did_you_mean

_POINTER = "/training/class_weights"


def class_weights(
    wanted: str | Mapping[str, float] | None, classes: list[str] | None, y: np.ndarray
) -> np.ndarray | None:
    """(C,) float64 weights of the classes, from ``training.class_weights`` and the (n,) codes of the training rows.

    ``balanced``: n / (C · rows of the class), as scikit-learn's. Classes that are not named weigh 1. Raises DataError for a
    regression and for a class that is not there.
    """
    if wanted is None:
        return None
    if classes is None:
        message = "class_weights need classes; this is a regression (task: classification makes its values classes)"
        raise DataError(message, code="option_not_applicable", pointer=_POINTER)
    if isinstance(wanted, str):
        return len(y) / (len(classes) * np.maximum(np.bincount(y, minlength=len(classes)), 1))
    for name in wanted:
        if name not in classes:
            hint = did_you_mean(name, classes) or f"; the classes are {show_some(classes, 8)}"
            raise DataError(f"there is no class {show(name)}{hint}", code="unknown_value", pointer=f"{_POINTER}/{name}")
    return np.array([float(wanted.get(name, 1.0)) for name in classes])


def weights_said(weights: np.ndarray | None, classes: list[str] | None) -> list[str]:
    """What was done, in a sentence."""
    if weights is None or classes is None:
        return []
    each = show_some([f"{name} {value:.3g}" for name, value in zip(classes, weights, strict=True)], 8)
    return [f"The training loss weighs classes: {each}. Metrics do not."]
