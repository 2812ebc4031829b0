"""A confirmation keeps what each trial scored on each row, whatever stopped it, on the fold that it was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optim_core.engine import Interrupted, run_pack
from optim_core.engine.loop import make_runner
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import TrialParams, UnitResult, UnitSpec
from optim_core.tasks import ProblemSource
from optim_core.tasks.build import Problem
from tests.unit.test_engine import problem, trial, unit

DATA = {"accuracy": "iris", "f1": "iris", "auroc": "iris", "loss": "iris", "rmse": "diabetes", "r2": "diabetes"}


def source(metric: str = "accuracy", **changes: Any) -> ProblemSource:
    raw = {
        "model": {"kind": "catalogue", "name": "mlp", "hidden": [8]},
        "dataset": {"kind": "builtin", "name": DATA[metric]},
        "metric": metric,
        "training": {"batch_size": 16, **changes},
    }
    return ProblemSource(StudySpec.model_validate(raw), torch.float64)


def confirmation(trials: list[TrialParams], fold: int | None = None, horizon: int = 30) -> UnitSpec:
    return unit(trials, horizon).model_copy(update={"kind": "confirm", "split": "test", "fold": fold})


PACK = [trial(0, "adamw", lr=0.01), trial(1, "sgd", lr=0.05, seed=1), trial(2, "adamw", lr=0.03, seed=2)]


def from_rows(metric: str, result: UnitResult, place: int, split: str) -> float:
    values = np.array(unpack(result.trials[place].rows[split]), dtype=np.float64)  # type: ignore[index]
    if metric == "rmse":
        return float(np.sqrt(values.mean()))
    if metric == "r2":
        return float(1 - values.mean() / np.var(unpack(result.targets[split])))  # type: ignore[index]
    return float(values.mean())


@pytest.mark.parametrize("metric", [name for name in DATA if name != "f1"])
@pytest.mark.parametrize("fold", [0, 3])
def test_rows_add_up_to_the_metric_of_both_splits(metric: str, fold: int) -> None:
    task = source(metric).problem(fold)
    result = run_pack(task, confirmation(PACK, fold))
    runner = make_runner(task, confirmation(PACK, fold), "auto")
    runner.advance(0, 30)
    for name, split in (("test", task.test), ("validation", task.validation)):
        _, metrics = task.evaluate_batched(runner.outputs(split.x), split.y)
        for place, value in enumerate(metrics.tolist()):
            assert from_rows(metric, result, place, name) == pytest.approx(value, abs=1e-6)
            assert len(unpack(result.trials[place].rows[name])) == len(split.y)  # type: ignore[index]
    assert [from_rows(metric, result, i, "test") for i in range(3)] == pytest.approx(
        [one.metric for one in result.trials], abs=1e-6
    )
    assert set(result.targets) == ({"test", "validation"} if metric in ("auroc", "r2") else set())


def test_a_fold_has_its_rows_in_one_order_in_both_its_turns() -> None:
    folds = [source("f1").problem(fold) for fold in range(FOLDS)]
    results = [run_pack(task, confirmation(PACK, fold)) for fold, task in enumerate(folds)]
    for fold, result in enumerate(results):
        assert result.targets["test"] == results[fold - 1].targets["validation"]
        assert list(unpack(result.targets["test"])) == folds[fold].test.y.tolist()


def test_only_a_confirmation_keeps_rows() -> None:
    task = source().problem()
    for kind, split in (("train", "validation"), ("screen", "validation"), ("train", "test")):
        other = unit(PACK, 10).model_copy(update={"kind": kind, "split": split})
        result = run_pack(task, other)
        assert [one.rows for one in result.trials] == [{}, {}, {}]
        assert result.targets == {}


def test_a_diverged_trial_has_no_rows_and_its_neighbours_keep_theirs() -> None:
    task = source("rmse").problem()
    calm = [trial(0, "sgd", lr=0.01), trial(1, "sgd", lr=0.02), trial(2, "adamw")]
    wild = [calm[0], trial(1, "sgd", lr=1e6), calm[2]]
    before, after = (run_pack(task, confirmation(trials)) for trials in (calm, wild))
    assert after.trials[1].rows == {}
    for i in (0, 2):
        assert before.trials[i].rows == after.trials[i].rows
    alone = run_pack(task, confirmation([wild[1]]))
    assert (alone.trials[0].rows, alone.targets) == ({}, {})


def test_a_trial_that_listens_to_the_validation_rows_is_not_scored_on_them() -> None:
    task = source().problem()
    pack = [PACK[0], trial(1, "adamw", "reduce_on_plateau", lr=0.01)]
    rows = [one.rows for one in run_pack(task, confirmation(pack)).trials]
    assert [set(own) for own in rows] == [{"test", "validation"}, {"test"}]


def test_outputs_that_are_no_numbers_on_the_validation_rows_leave_only_those_out() -> None:
    task = source().problem()
    task.validation.x[3] = torch.inf
    assert [set(one.rows) for one in run_pack(task, confirmation(PACK)).trials] == 3 * [{"test"}]


@pytest.mark.parametrize("stop_at", [15, 30])
def test_an_interrupted_confirmation_keeps_the_same_rows(stop_at: int) -> None:
    task, pack = source("loss").problem(2), confirmation(PACK, 2)
    whole, saved = run_pack(task, pack), []

    def watch(chunk) -> bool:
        if chunk.step == stop_at:
            saved.append(chunk.checkpoint())
        return chunk.step < stop_at

    if stop_at < pack.horizon:
        with pytest.raises(Interrupted):
            run_pack(task, pack, on_chunk=watch)
    else:
        run_pack(task, pack, on_chunk=watch)
    assert run_pack(task, pack, checkpoint=saved[0]).trials == whole.trials


def test_the_problem_has_to_be_of_the_units_fold() -> None:
    folds = source()
    for fold, other in ((0, 1), (2, None), (2, 0)):
        with pytest.raises(ValueError, match="wants fold"):
            run_pack(folds.problem(fold), confirmation(PACK, other))
    for own in (None, 0):
        assert run_pack(folds.problem(own), confirmation(PACK, own, 5)).trials


def test_a_split_of_its_own_has_both_splits_scored() -> None:
    single: Problem = source(test_fraction=0.3).problem()
    (one,) = run_pack(single, confirmation(PACK[:1])).trials
    assert len(unpack(one.rows["test"])) == 45
    assert len(unpack(one.rows["validation"])) == len(single.validation.y)


def test_rows_do_not_depend_on_how_many_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem()
    whole = run_pack(task, confirmation(PACK))
    monkeypatch.setattr("optim_core.tasks.judge._VALUES", 1)
    assert run_pack(task, confirmation(PACK)).trials == whole.trials
