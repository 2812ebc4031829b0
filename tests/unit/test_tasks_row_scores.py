"""Row scores say of each row what the metric says of all: their mean, root, counts or variance is the metric again."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from optim_core.spec.problem import METRICS_OF_TASK, StudySpec
from optim_core.tasks import Problem, build_problem
from optim_core.tasks.ranked import influence, precision_values
from optim_core.tasks.row_scores import BLOCKS, MOST_ROWS, row_scores, row_targets

BY_CLASSES = {2: "breast_cancer", 3: "iris", 10: "digits"}


@functools.cache
def problem_for(metric: str, data: str) -> Problem:
    raw: dict[str, Any] = {
        "model": {"kind": "catalogue", "name": "linear"},
        "dataset": {"kind": "builtin", "name": data},
    }
    return build_problem(StudySpec.model_validate({**raw, "metric": metric}), torch.float64)


def again(problem: Problem, values: np.ndarray, targets: np.ndarray | None) -> float:
    """The metric of one run, from what was kept of its rows."""
    kept = values.astype(np.float64)
    if problem.metric == "rmse":
        return float(np.sqrt(kept.mean()))
    if problem.metric == "r2":
        assert targets is not None
        return float(1 - kept.mean() / targets.astype(np.float64).var())
    if problem.metric == "balanced_accuracy":
        return float(np.mean([kept[targets == code].mean() for code in np.unique(targets)]))  # type: ignore[arg-type]
    if problem.metric == "f1":
        return float(reference.f1_score(targets, values, average="macro", zero_division=0))  # type: ignore[arg-type]
    return float(kept.mean())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), classes=st.sampled_from([2, 3, 10]), rows=st.integers(20, 90), trials=st.integers(1, 4),
    levels=st.sampled_from([2, 5, 1000]), metric=st.sampled_from(METRICS_OF_TASK["classification"]),
)  # fmt: skip
def test_classification(seed: int, classes: int, rows: int, trials: int, levels: int, metric: str) -> None:
    problem = problem_for(metric, BY_CLASSES[classes])
    generator = torch.Generator().manual_seed(seed)
    # Of ten classes the last may be absent, and shares differ.
    y = torch.cat([torch.arange(2), torch.randint(0, classes, (rows,), generator=generator) % (1 + classes // 2)])
    # Few levels make ties, which a ranking has to count half.
    outputs = torch.randint(0, levels, (trials, rows + 2, classes), generator=generator).double() / levels
    values, targets = row_scores(problem, outputs, y), row_targets(problem, y)
    _, expected = problem.evaluate_batched(outputs, y)
    assert values.shape == (trials, rows + 2)
    assert values.dtype == (np.uint8 if metric in ("accuracy", "balanced_accuracy", "f1") else np.float32)
    assert (targets is not None) == (metric in ("f1", "balanced_accuracy", "auroc", "average_precision"))
    for own, metric_value in zip(values, expected.tolist(), strict=True):
        assert again(problem, own, targets) == pytest.approx(metric_value, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(8, 90), trials=st.integers(1, 4),
    metric=st.sampled_from(METRICS_OF_TASK["regression"]),
)  # fmt: skip
def test_regression(seed: int, rows: int, trials: int, metric: str) -> None:
    problem = problem_for(metric, "diabetes")
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, generator=generator, dtype=torch.float64)
    outputs = (y + torch.randn(trials, rows, generator=generator, dtype=torch.float64)).unsqueeze(-1)
    values, targets = row_scores(problem, outputs, y), row_targets(problem, y)
    _, expected = problem.evaluate_batched(outputs, y)
    assert values.shape == (trials, rows)
    assert (targets is not None) == (metric == "r2")
    for own, metric_value in zip(values, expected.tolist(), strict=True):
        # Values are stored in float32, and two targets can be nearly equal.
        assert again(problem, own, targets) == pytest.approx(metric_value, rel=1e-4, abs=1e-6)


def test_influence_values_by_their_definition() -> None:
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8, 0.3, 0.9], dtype=torch.float64)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    chance = torch.stack([1 - scores, scores], dim=1).log()
    up = {1: 2.5 / 3, 3: 1.0, 5: 1.0}
    above = {0: 1.0, 2: 2.5 / 3, 4: 1.0}
    area = 8.5 / 9
    expected = [area + 2 * ((up | above)[i] - area) for i in range(6)]
    torch.testing.assert_close(influence(chance, y), torch.tensor(expected, dtype=torch.float64))


def test_influence_values_spread_as_areas_of_fresh_rows_do() -> None:
    """Their variance over n is the sampling variance of the area (DeLong et al. 1988), seen over 400 fresh tables."""
    generator = torch.Generator().manual_seed(0)
    areas, spreads = [], []
    for _ in range(400):
        y = (torch.rand(200, generator=generator) < 0.3).long()
        score = torch.randn(200, generator=generator, dtype=torch.float64) + y
        values = influence(torch.stack([torch.zeros_like(score), score], dim=1), y)
        areas.append(float(values.mean()))
        spreads.append(float(values.var()) / 200)
    assert np.mean(spreads) == pytest.approx(np.var(areas), rel=0.2)


def test_precision_values_spread_as_those_of_fresh_rows_do() -> None:
    """As above, of single runs and of differences between two on the same rows."""
    generator = torch.Generator().manual_seed(0)
    found, spreads = [], []
    for _ in range(400):
        y = (torch.rand(400, generator=generator) < 0.1).long()
        score = torch.randn(400, generator=generator, dtype=torch.float64) + 1.5 * y
        other = score + 0.5 * torch.randn(400, generator=generator)
        one, two = (precision_values(torch.stack([torch.zeros_like(s), s], dim=1), y) for s in (score, other))
        found.append([float(one.mean()), float((one - two).mean())])
        spreads.append([float(one.var()) / 400, float((one - two).var()) / 400])
    assert np.mean(spreads, axis=0) == pytest.approx(np.var(found, axis=0), rel=0.2)


def test_many_classes_need_more_than_a_byte() -> None:
    raw: dict[str, Any] = {
        "model": {"kind": "catalogue", "name": "linear"},
        "dataset": {
            "kind": "builtin",
            "name": "synthetic_classification",
            "samples": 3000,
            "features": 9,
            "classes": 300,
        },
        "metric": "f1",
    }
    problem = build_problem(StudySpec.model_validate(raw))
    assert problem.outputs == 300
    y = problem.test.y
    outputs = torch.nn.functional.one_hot(y, 300).double()[None]
    values, targets = row_scores(problem, outputs, y), row_targets(problem, y)
    assert targets is not None
    assert values.dtype == targets.dtype == np.uint16
    assert np.array_equal(values[0], y.numpy())
    assert np.array_equal(targets, y.numpy())


@pytest.mark.parametrize(
    ("metric", "data"), [("loss", "iris"), ("loss", "diabetes"), ("mae", "diabetes"), ("rmse", "diabetes"),
                         ("auroc", "breast_cancer"), ("auroc", "iris"), ("log_loss", "iris"), ("mape", "diabetes")],
)  # fmt: skip
def test_many_rows_are_kept_as_means_of_blocks(metric: str, data: str) -> None:
    problem, rows = problem_for(metric, data), MOST_ROWS + 1
    generator = torch.Generator().manual_seed(0)
    if problem.classes is None:
        # Away from a target of 0 in its own unit, where relative errors have no variance.
        y = torch.randn(rows, generator=generator, dtype=torch.float64).clamp(min=-1)
    else:
        y = (torch.rand(rows, generator=generator) < 0.1).long()
    outputs = torch.randn(3, rows, problem.outputs, generator=generator, dtype=torch.float64)
    values, few = row_scores(problem, outputs, y), row_scores(problem, outputs[:, :MOST_ROWS], y[:MOST_ROWS])
    assert values.shape == (3, BLOCKS)
    assert few.shape == (3, MOST_ROWS)
    assert np.array_equal(values, row_scores(problem, outputs, y))
    _, expected = problem.evaluate_batched(outputs, y)
    for own, metric_value in zip(values, expected.tolist(), strict=True):
        assert again(problem, own, None) == pytest.approx(metric_value, rel=1e-6)
    # As uncertain as the rows themselves: the spread of a mean over blocks is that of a mean over rows.
    assert values.var(axis=1) / BLOCKS == pytest.approx(few.var(axis=1) / MOST_ROWS, rel=0.1)
    targets = row_targets(problem, y)
    assert (targets is not None) == (metric == "auroc")
    if targets is not None:
        assert targets.mean() == pytest.approx(float(y.double().mean()), abs=0.001)


@pytest.mark.parametrize(("metric", "data"), [
    ("accuracy", "iris"), ("balanced_accuracy", "iris"), ("average_precision", "iris"), ("f1", "iris"), ("r2", "diabetes"),
])  # fmt: skip
def test_what_blocks_could_not_tell_is_kept_row_by_row(metric: str, data: str) -> None:
    problem, rows = problem_for(metric, data), MOST_ROWS + 1
    y = torch.arange(rows) % 3
    outputs = torch.zeros(1, rows, problem.outputs, dtype=torch.float64)
    assert row_scores(problem, outputs, y if problem.classes else y.double()).shape == (1, rows)


def test_an_error_beyond_float32_stays_a_number() -> None:
    problem = problem_for("rmse", "diabetes")
    values = row_scores(problem, torch.full((1, 4, 1), 1e30, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    assert np.isfinite(values).all()
    assert values.min() > 1e38
