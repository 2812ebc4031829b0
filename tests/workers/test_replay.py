"""A replay trains what was confirmed, fold by fold, and pools what its runs scored as the answer did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from optim_core.engine import run_pack
from optim_core.engine.loop import make_runner
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.trial import TrialResult, UnitResult
from optim_core.tasks import ProblemSource
from workers.replay import pooled_score, replay, score_of

SEEDS = [11, 12]


def spec_of(metric: str, **training: Any) -> StudySpec:
    dataset = {"kind": "builtin", "name": "diabetes" if metric in ("rmse", "r2", "mae") else "iris"}
    raw = {"model": {"kind": "catalogue", "name": "linear"}, "dataset": dataset, "metric": metric}
    return StudySpec.model_validate({**raw, "training": {"batch_size": 16, "steps": 20, **training}})


def answer_of(spec: StudySpec, folds: int, schedule: str = "cosine", **changes: Any) -> dict[str, Any]:
    hyperparameters = {**OPTIMIZERS["adamw"].defaults(), "lr": 0.02}
    return {
        "recommended": {
            "optimizer": "adamw", "hyperparameters": hyperparameters, "schedule": {"name": schedule}, "techniques": {},
            "parameter_groups": [],
        },
        "replay": {
            "seeds": SEEDS, "folds": folds, "wide": folds > 1 and schedule == "cosine",
            "data_hash": ProblemSource(spec).problem().data_hash,
        },
        "score": {"mean": 0.5, **changes},
    }  # fmt: skip


def ignore(_: str) -> None:
    """No progress is shown."""


def result(rows: list[dict], targets: dict | None = None) -> UnitResult:
    trials = [
        TrialResult(number=i, objective=0.0, metric=0.5 if own else None, loss=0.1, steps=1, rows=own)
        for i, own in enumerate(rows)
    ]
    return UnitResult(trials=trials, targets=targets or {}, seconds=1.0, train_steps=1, device="cpu", engine="batched")


@pytest.mark.parametrize("metric", ["accuracy", "loss", "f1", "auroc", "rmse", "mae", "r2"])
def test_the_score_is_found_again_bit_for_bit(metric: str) -> None:
    spec = spec_of(metric)
    first = replay(spec.model_dump(mode="json"), answer_of(spec, FOLDS), ignore)
    assert first.mean is not None
    assert len(first.values) == FOLDS * len(SEEDS)
    assert not first.close
    told: list[str] = []
    again = replay(spec.model_dump(mode="json"), answer_of(spec, FOLDS, mean=first.mean), told.append)
    assert (again.same, again.close, again.data_changed) == (True, True, False)
    assert told[-1] == "fold 5/5, step 20/20"
    near = replay(spec.model_dump(mode="json"), answer_of(spec, FOLDS, mean=first.mean * (1 + 1e-4)), ignore)
    assert (near.same, near.close) == (False, True)


def test_each_row_counts_in_both_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, seen = spec_of("accuracy"), []

    def kept(problem, unit, **rest: Any) -> UnitResult:
        assert [trial.seed for trial in unit.trials] == SEEDS
        found = run_pack(problem, unit, **rest)
        outcome = [problem.evaluate(own, problem.validation.y)[1] for own in _validation(problem, unit)]
        seen.append((unit.fold, problem, [trial.metric for trial in found.trials], outcome))
        return found

    def _validation(problem, unit):
        runner = make_runner(problem, unit, "auto")
        runner.advance(0, unit.horizon)
        return runner.outputs(problem.validation.x)

    monkeypatch.setattr("optim_core.engine.run_pack", kept)
    found = replay(spec.model_dump(mode="json"), answer_of(spec, FOLDS), ignore)
    assert [fold for fold, *_ in seen] == list(range(FOLDS))
    # Folds of iris are of one size.
    scores = [value for _, _, test, validation in seen for value in (*test, *validation)]
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-9)
    assert found.values == [value for _, _, test, _ in seen for value in test]


@pytest.mark.parametrize("training", [{}, {"test_fraction": 0.3}])
def test_a_single_split_is_scored_on_its_test_rows(training: dict[str, float]) -> None:
    spec = spec_of("accuracy", **training)
    found = replay(spec.model_dump(mode="json"), answer_of(spec, 1), ignore)
    assert found.mean == pytest.approx(np.mean([value for value in found.values if value is not None]), abs=1e-9)
    assert len(found.values) == len(SEEDS)


def test_a_schedule_that_used_the_validation_rows_is_scored_on_the_test_rows() -> None:
    spec = spec_of("accuracy")
    found = replay(spec.model_dump(mode="json"), answer_of(spec, FOLDS, "reduce_on_plateau"), ignore)
    assert found.mean == pytest.approx(np.mean([value for value in found.values if value is not None]), abs=1e-9)


def test_other_data_are_said_before_anything_is_trained() -> None:
    spec = spec_of("accuracy")
    answer = answer_of(spec, 1)
    answer["replay"]["data_hash"] = "another"
    told: list[str] = []
    found = replay(spec.model_dump(mode="json"), answer, told.append)
    assert (found.data_changed, found.same, found.close) == (True, False, False)
    assert (told, found.mean, found.values) == ([], None, [])


def test_a_run_that_diverged_counts_as_the_worst_where_there_is_one() -> None:
    right = {"test": pack([1, 1, 0, 1], "B")}
    assert score_of("accuracy", [result([right, {}])], False) == pytest.approx(0.375)
    errors = {"test": pack([1.0, 4.0], "f")}
    assert score_of("rmse", [result([errors, errors])], False) == pytest.approx(2.5**0.5)
    assert score_of("rmse", [result([errors, {}])], False) is None
    assert score_of("accuracy", [result([{}, {}])], False) is None


def test_counts_are_pooled_over_folds() -> None:
    guesses, truth = [[0, 1, 1, 0], [1, 0, 0, 1]], [[0, 1, 0, 0], [1, 1, 0, 0]]
    folds = [
        result([{"test": pack(guess, "B")}], {"test": pack(y, "B")}) for guess, y in zip(guesses, truth, strict=True)
    ]
    expected = f1_score(np.concatenate(truth), np.concatenate(guesses), average="macro")
    assert score_of("f1", folds, False) == pytest.approx(expected)
    values = [np.array([[guess]], float) for guess in guesses]
    assert pooled_score("f1", values, [np.array(y, float) for y in truth]) == pytest.approx(expected)
