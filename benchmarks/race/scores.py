"""Metrics by scikit-learn, so that nothing of Whichopt's judges. Higher or lower is better as ``better`` says."""

from __future__ import annotations

import numpy as np
from sklearn import metrics

MAXIMISED = {"accuracy", "f1", "auroc", "r2"}


def score(metric: str, outputs: np.ndarray, y: np.ndarray, y_scale: tuple[float, float]) -> float:
    """``outputs``: (n, classes) scores, or (n, 1) standardised predictions; ``y`` likewise. NaN when an output is not finite.

    Regression is scored in the target's own unit, except ``loss``.
    """
    if not np.isfinite(outputs).all():
        return float("nan")
    outputs = outputs.astype(np.float64)
    if outputs.shape[1] == 1:
        mean, deviation = (0.0, 1.0) if metric == "loss" else y_scale
        return _regression(metric, outputs[:, 0] * deviation + mean, y.astype(np.float64) * deviation + mean)
    return _classification(metric, outputs, y)


def trivial(metric: str, y_train: np.ndarray, y: np.ndarray, outputs: int, y_scale: tuple[float, float]) -> float:
    """The score of the best constant answer: class frequencies of training, or its mean."""
    if outputs == 1:
        constant = np.full((len(y), 1), y_train.mean())
    else:
        constant = np.tile(np.log(np.bincount(y_train, minlength=outputs) / len(y_train)), (len(y), 1))
    return score(metric, constant, y, y_scale)


def margin(metric: str, value: float) -> float:
    """Differences within it do not matter: 1 % of the metric, at most a fifth of what is missing to a perfect score."""
    one = 0.01 * abs(value)
    return min(one, 0.2 * max(1.0 - value, 0.0)) if metric in MAXIMISED else one


def _classification(metric: str, outputs: np.ndarray, y: np.ndarray) -> float:
    if metric == "accuracy":
        return float((outputs.argmax(1) == y).mean())
    if metric == "f1":
        return float(metrics.f1_score(y, outputs.argmax(1), average="macro"))
    shifted = outputs - outputs.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    if metric == "loss":
        return float(-logs[np.arange(len(y)), y].mean())
    chances = np.exp(logs)
    chances = chances[:, 1] if outputs.shape[1] == 2 else chances / chances.sum(1, keepdims=True)
    return float(metrics.roc_auc_score(y, chances, multi_class="ovr"))


def _regression(metric: str, found: np.ndarray, y: np.ndarray) -> float:
    if metric == "mae":
        return float(metrics.mean_absolute_error(y, found))
    if metric == "r2":
        return float(metrics.r2_score(y, found))
    error = float(metrics.mean_squared_error(y, found))
    return error if metric == "loss" else error**0.5
