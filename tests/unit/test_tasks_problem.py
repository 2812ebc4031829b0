"""A problem: horizons, losses, metrics in the target's unit, the minimised number, and the bundled examples."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from torch import nn

from optim_core.spec.problem import FOLDS, METRICS_OF_TASK, BuiltinDataset, CatalogueModel, StudySpec, Training
from optim_core.spec.trial import WORST_VALUE
from optim_core.tasks import Problem, ProblemSource, build_problem
from optim_core.tasks.common import TIE_BREAK

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def problem_for(data: str, dtype: torch.dtype = torch.float32, **rest: Any) -> Problem:
    training = Training(**rest.pop("training", {}))
    dataset = BuiltinDataset(name=data)  # type: ignore[arg-type]
    spec = StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset, training=training, **rest)
    return build_problem(spec, dtype)


@pytest.mark.parametrize(
    ("training", "horizon"),
    [
        ({}, 660),  # 20 epochs of 33 full batches
        ({"batch_size": 500}, 200),
        ({"batch_size": 4}, 2000),
        ({"epochs": 3, "batch_size": 100}, 30),
        ({"steps": 17}, 17),
    ],
)
def test_horizons(training: dict[str, int], horizon: int) -> None:
    problem = problem_for("digits", training=training)
    assert problem.full_horizon == horizon
    assert problem.steps_per_epoch == 1079 // problem.batch_size


def test_regression_metrics_are_in_the_targets_own_unit() -> None:
    mean, deviation = problem_for("diabetes").y_scale
    assert deviation > 50
    outputs = torch.randn(3, 88, 1, generator=torch.Generator().manual_seed(0))
    for name, reference_metric in (
        ("rmse", reference.root_mean_squared_error), ("mae", reference.mean_absolute_error), ("r2", reference.r2_score),
    ):  # fmt: skip
        problem = problem_for("diabetes", metric=name)
        y = problem.validation.y
        losses, values = problem.evaluate_batched(outputs, y)
        truth = y.double().numpy() * deviation + mean
        for trial in range(3):
            guess = outputs[trial, :, 0].double().numpy() * deviation + mean
            assert values[trial].item() == pytest.approx(reference_metric(truth, guess), rel=1e-6)
            assert losses[trial].item() == pytest.approx(
                np.mean((outputs[trial, :, 0].numpy() - y.numpy()) ** 2), rel=1e-5
            )


@pytest.mark.parametrize("data", ["digits", "breast_cancer", "diabetes"])
def test_one_trial_is_a_batch_of_one(data: str) -> None:
    task = problem_for(data).task
    for metric in METRICS_OF_TASK[task]:
        problem = problem_for(data, metric=metric)
        y = problem.validation.y
        outputs = torch.randn(4, len(y), problem.outputs, generator=torch.Generator().manual_seed(1))
        losses, values = problem.evaluate_batched(outputs, y)
        for trial in range(4):
            assert problem.evaluate(outputs[trial], y) == (losses[trial].item(), values[trial].item())


@pytest.mark.parametrize("data", ["digits", "diabetes"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_trial_is_nan_and_its_neighbours_are_untouched(data: str, bad: float) -> None:
    for metric in METRICS_OF_TASK[problem_for(data).task]:
        problem = problem_for(data, metric=metric)
        y = problem.validation.y
        outputs = torch.randn(3, len(y), problem.outputs, generator=torch.Generator().manual_seed(1))
        clean = problem.evaluate_batched(outputs, y)
        outputs[1, 5, 0] = bad
        loss, value = problem.evaluate_batched(outputs, y)
        assert torch.isnan(loss[1])
        assert torch.isnan(value[1])
        for trial in (0, 2):
            assert loss[trial] == clean[0][trial]
            assert value[trial] == clean[1][trial]


def test_the_training_loss() -> None:
    smooth, plain = (problem_for("digits", training={"label_smoothing": s}) for s in (0.2, 0.0))
    outputs, y = torch.randn(9, 10), torch.arange(9)
    expected = nn.functional.cross_entropy(outputs, y, label_smoothing=0.2)
    torch.testing.assert_close(smooth.loss(outputs, y), expected)
    torch.testing.assert_close(plain.loss(outputs, y), nn.functional.cross_entropy(outputs, y))
    assert smooth.evaluate(outputs, y) == plain.evaluate(outputs, y)
    problem = problem_for("diabetes")
    guess, goal = torch.randn(9, 1), torch.randn(9)
    torch.testing.assert_close(problem.loss(guess, goal), nn.functional.mse_loss(guess[:, 0], goal))


def test_the_objective_is_finite_ordered_and_breaks_ties_by_the_loss() -> None:
    accuracy = problem_for("digits")
    assert accuracy.direction == "maximize"
    assert accuracy.objective(0.9, 1.0) < accuracy.objective(0.8, 0.1)
    assert accuracy.objective(0.9, 0.1) < accuracy.objective(0.9, 0.2)
    assert accuracy.objective(math.nan, 0.1) == accuracy.objective(0.9, math.inf) == WORST_VALUE
    rmse = problem_for("diabetes")
    assert rmse.direction == "minimize"
    assert rmse.objective(rmse.y_scale[1], 1.0) == pytest.approx(1 + TIE_BREAK / 2, abs=1e-12)
    assert rmse.objective(1e300, 1e30) == WORST_VALUE
    assert problem_for("digits", metric="loss").objective(0.3, 0.3) == 0.3


REGRESSION = METRICS_OF_TASK["regression"]
METRICS = ["accuracy", "f1", "auroc", "r2", "rmse", "mae"]
PROBLEMS = functools.cache(lambda metric: problem_for("diabetes" if metric in REGRESSION else "digits", metric=metric))
LOSSES = st.one_of(st.floats(-1e-6, 50), st.floats(0, 1e300))


@settings(max_examples=200, deadline=None)
@given(metric=st.sampled_from(METRICS), apart=st.integers(1, 10_000), at=st.integers(0, 10_000), data=st.data())
def test_no_loss_makes_up_for_a_worse_metric(metric: str, apart: int, at: int, data: st.DataObject) -> None:
    problem = PROBLEMS(metric)
    low, high = at / 20_000, (at + apart) / 20_000
    low_loss, high_loss = data.draw(LOSSES), data.draw(LOSSES)
    lower, higher = problem.objective(low, low_loss), problem.objective(high, high_loss)
    assert (lower > higher) == (problem.direction == "maximize")
    assert max(abs(lower), abs(higher)) <= WORST_VALUE


@settings(max_examples=100, deadline=None)
@given(metric=st.sampled_from(METRICS), value=st.floats(-1, 1), loss=st.floats(0, 50), more=st.floats(1e-3, 50))
def test_the_loss_decides_between_equal_metrics(metric: str, value: float, loss: float, more: float) -> None:
    problem = PROBLEMS(metric)
    assert problem.objective(value, loss) < problem.objective(value, loss + more)


@pytest.mark.parametrize("data", ["digits", "diabetes"])
def test_the_folds_of_one_source(data: str) -> None:
    spec = StudySpec(model=CatalogueModel(name="mlp"), dataset=BuiltinDataset(name=data))  # type: ignore[arg-type]
    source = ProblemSource(spec, torch.float64)
    folds = [source.problem(fold) for fold in range(FOLDS)]
    assert [problem.fold for problem in folds] == list(range(FOLDS))
    assert len({problem.data_hash for problem in folds}) == FOLDS
    assert source.problem().data_hash == build_problem(spec).data_hash == build_problem(spec, fold=0).data_hash
    assert build_problem(spec, fold=3).data_hash == folds[3].data_hash
    first = folds[0].make_model(7).state_dict()
    for problem in folds[1:]:
        assert all(torch.equal(weight, first[name]) for name, weight in problem.make_model(7).state_dict().items())
    for problem, before in zip(folds, folds[-1:] + folds[:-1], strict=True):
        (mean, deviation), (other_mean, other_deviation) = problem.y_scale, before.y_scale
        own, seen = problem.test.y * deviation + mean, before.validation.y * other_deviation + other_mean
        torch.testing.assert_close(own, seen, rtol=1e-6, atol=1e-4)


def test_tensors_have_the_precision_asked_for() -> None:
    problem = problem_for("diabetes", torch.float64)
    assert problem.train.x.dtype == problem.train.y.dtype == torch.float64
    assert problem_for("digits", torch.float64).train.y.dtype == torch.int64
    x, y, w = problem.test
    assert len(x) == len(y) == 88
    assert w is None


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != "text"], ids=lambda path: path.stem)
def test_every_example_of_a_table_can_be_learned(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    problem = build_problem(StudySpec.model_validate(yaml.safe_load(path.read_text())))
    model = problem.make_model(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    before = problem.evaluate(model.eval()(problem.validation.x).detach(), problem.validation.y)
    model.train()
    for _ in range(problem.full_horizon):
        rows = torch.randint(len(problem.train.y), (problem.batch_size,), generator=generator)
        optimizer.zero_grad()
        problem.loss(model(problem.train.x[rows]), problem.train.y[rows]).backward()
        optimizer.step()
    after = problem.evaluate(model.eval()(problem.validation.x).detach(), problem.validation.y)
    assert problem.objective(after[1], after[0]) < problem.objective(before[1], before[0]) - 0.15


def test_example_files_are_small_and_present() -> None:
    assert {path.stem for path in EXAMPLES} >= {"digits", "housing", "churn", "layers", "text"}
    for path in (ROOT / "examples").glob("*.csv"):
        assert path.stat().st_size < 60_000
