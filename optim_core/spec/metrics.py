"""What is measured: tasks, their metrics, and what is known of each metric."""

from __future__ import annotations

import math
from typing import Literal, get_args

from optim_core.spec.errors import SpecError

TableTask = Literal["classification", "regression"]
# ``own``: neither of the others, as the learning of a text, or what a person's own model and data are for.
Task = Literal[TableTask, "own"]
# ``score`` and ``error``: a function of the person's own, of which more or less is better.
Metric = Literal[
    "accuracy", "balanced_accuracy", "loss", "log_loss", "f1", "auroc", "average_precision", "rmse", "mae", "mape", "r2",
    "perplexity", "score", "error",
]  # fmt: skip
# Those of classes that have no unit: between 0 and 1, and 1 is perfect.
_SHARES = ("accuracy", "balanced_accuracy", "f1", "auroc", "average_precision")
MAXIMISED: frozenset[str] = frozenset({*_SHARES, "r2", "score"})
# Metrics with a perfect score that is not 0. What would be perfect for a function of the person's own, nobody knows.
PERFECT: dict[str, float] = {**dict.fromkeys(_SHARES, 1.0), "r2": 1.0, "perplexity": 1.0}
# The least and the greatest value that a metric can have; infinite where it has none.
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_SHARES, (0.0, 1.0)), "r2": (-math.inf, 1.0), "perplexity": (1.0, math.inf),
    **dict.fromkeys(("rmse", "mae", "mape", "loss", "log_loss"), (0.0, math.inf)),
    "score": (-math.inf, math.inf), "error": (-math.inf, math.inf),
}  # fmt: skip
METRICS_OF_TASK: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "loss", "f1", "auroc", "balanced_accuracy", "average_precision", "log_loss"),
    "regression": ("rmse", "loss", "mae", "r2", "mape"),
    "own": ("loss", "perplexity", "score", "error"),
}
# Errors of numbers, of which the mean of all targets is a first answer; those in the target's own unit.
NUMBER_ERRORS, IN_UNIT = frozenset({"rmse", "mae", "mape"}), frozenset({"rmse", "mae"})
# Whose rows are ranked: what is kept of each is its influence in its own run and split, and both kinds of rows must be there.
RANKED = frozenset({"auroc", "average_precision"})
# From this share of one class on, accuracy says little, and these say more.
IMBALANCED, OF_IMBALANCED = 0.8, ("balanced_accuracy", "average_precision")
# As people write them, where that is not the name.
SHORT_METRICS = {
    "rmse": "RMSE", "mae": "MAE", "mape": "MAPE", "r2": "R²", "auroc": "AUROC", "f1": "F1", "log_loss": "log loss",
    "balanced_accuracy": "balanced accuracy", "average_precision": "average precision",
}  # fmt: skip
# What can be named: a function of the person's own is named by its entry point.
NAMED_METRICS = tuple(name for name in get_args(Metric) if name not in ("score", "error"))
# Those of tables.
TABLE_TASKS: tuple[TableTask, ...] = ("classification", "regression")


def sign_of(metric: str) -> int:
    """1 where a higher metric is better, else −1."""
    return 1 if metric in MAXIMISED else -1


def check_metric(task: Task, metric: str | None) -> str:
    """The metric to use for ``task``: the given one, or the default. Raises SpecError ``metric_not_applicable``."""
    fitting = METRICS_OF_TASK[task]
    if metric is not None and metric not in fitting:
        message = f"{metric} does not fit {task}; choose one of {', '.join(m for m in fitting if m in NAMED_METRICS)}"
        raise SpecError(message, code="metric_not_applicable", pointer="/metric")
    return metric or fitting[0]
