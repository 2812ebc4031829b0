"""What one answer for every row scores, against scikit-learn's dummies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from sklearn.dummy import DummyClassifier, DummyRegressor

from optim_core.engine.confirmed import trivial_rows
from optim_core.recommend.row_scores import row_scores
from optim_core.spec.rowscores import unpack
from optim_core.tasks.build import Problem
from optim_core.tasks.judge import TableJudge
from optim_core.tasks.row_scores import row_targets
from optim_core.tasks.trivial import minority
from tests.unit.test_engine import problem

CANCER = {"kind": "builtin", "name": "breast_cancer"}
DIABETES = {"kind": "builtin", "name": "diabetes"}


def trivial(task: Problem) -> float:
    """The metric of the test split, from what a confirmation would keep of its rows."""
    rows, targets = (
        np.asarray(unpack(trivial_rows(TableJudge(task))["test"]), dtype=np.float64),
        row_targets(task, task.test.y),
    )
    return row_scores([rows[None, None]], task.metric, None if targets is None else [targets]).value


def answers(task: Problem, kind: type, **how: Any) -> tuple[np.ndarray, Any]:
    """The test targets, and a dummy fitted to the training rows."""
    train = np.zeros((len(task.train.y), 1))
    return task.test.y.numpy(), kind(**how).fit(train, task.train.y.numpy())


@pytest.mark.parametrize("dataset", [CANCER, {"kind": "builtin", "name": "digits"}], ids=["two classes", "ten classes"])
def test_the_most_frequent_class(dataset: dict[str, str]) -> None:
    for metric, score in (
        ("accuracy", reference.accuracy_score),
        ("f1", lambda y, guess: reference.f1_score(y, guess, average="macro", zero_division=0)),
    ):
        task = problem(dataset=dataset, metric=metric)
        y, dummy = answers(task, DummyClassifier, strategy="most_frequent")
        assert trivial(task) == pytest.approx(score(y, dummy.predict(np.zeros((len(y), 1)))))


def test_scores_that_are_alike_rank_nothing() -> None:
    assert trivial(problem(dataset=CANCER, metric="auroc")) == 0.5


def test_the_classes_shares_are_the_best_guess_of_the_loss() -> None:
    task = problem(dataset=CANCER, metric="loss")
    y, dummy = answers(task, DummyClassifier, strategy="prior")
    expected = reference.log_loss(y, dummy.predict_proba(np.zeros((len(y), 1))))
    assert trivial(task) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2", "loss"])
def test_the_mean_in_the_targets_own_unit(metric: str) -> None:
    task = problem(dataset=DIABETES, metric=metric)
    y, dummy = answers(task, DummyRegressor, strategy="mean")
    guess = dummy.predict(np.zeros((len(y), 1)))
    mean, deviation = task.y_scale
    scores = {
        "rmse": reference.root_mean_squared_error(y, guess) * deviation,
        "mae": reference.mean_absolute_error(y, guess) * deviation,
        "r2": reference.r2_score(y * deviation + mean, guess * deviation + mean),
        "loss": reference.mean_squared_error(y, guess),
    }
    # Rows are kept in single precision.
    assert trivial(task) == pytest.approx(scores[metric], rel=1e-6, abs=1e-6)


def test_a_class_that_training_never_saw_has_no_finite_loss() -> None:
    task = problem(dataset=CANCER, metric="loss")
    task.train.y.fill_(1)
    assert trivial_rows(TableJudge(task)) == {}


def test_the_rarest_class_over_all_rows() -> None:
    task = problem(dataset=CANCER)
    y = torch.cat([task.train.y, task.validation.y, task.test.y])
    assert minority(task) == min((y == 0).sum(), (y == 1).sum()) / len(y)
    assert minority(problem(dataset=DIABETES)) is None
