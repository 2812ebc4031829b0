"""A linear model and trees beside the answer: the same arrays, the same rows, the same metric, and what is claimed of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from optim_core.engine import run_reference
from optim_core.recommend import recommend
from optim_core.recommend.reference import TOO_DEAR
from optim_core.search.budget import left_steps
from optim_core.search.reference import affordable_references, owed_seconds
from optim_core.spec.recommendation import Reference
from optim_core.spec.rowscores import unpack
from optim_core.spec.trial import StudyView, UnitSpec
from optim_core.tasks import reference as fitting
from optim_core.tasks.reference import reference_rows, reference_seconds
from tests.unit.study_simulator import bowl, probe_report, simulate, spec
from tests.unit.test_engine import problem

WINE, DIABETES = ({"kind": "builtin", "name": name} for name in ("wine", "diabetes"))


@pytest.mark.parametrize(("name", "model"), [
    ("linear", LogisticRegression()), ("trees", HistGradientBoostingClassifier(early_stopping=False, random_state=0)),
])  # fmt: skip
def test_classes_are_scikit_learns_on_the_same_split(name: Any, model: Any) -> None:
    task = problem(dataset=WINE, metric="log_loss")
    model.fit(task.train.x.numpy(), task.train.y.numpy())
    trained, found = reference_rows(task, name)
    assert trained == len(task.train.y)
    for split in ("validation", "test"):
        rows = task.split(split)
        expected = sk.log_loss(rows.y.numpy(), model.predict_proba(rows.x.numpy()))
        assert found[split].mean() == pytest.approx(expected, rel=1e-5)  # type: ignore[index]


@pytest.mark.parametrize(("name", "model"), [
    ("linear", Ridge(1e-6 * 265)), ("trees", HistGradientBoostingRegressor(early_stopping=False, random_state=0)),
])  # fmt: skip
def test_numbers_are_scikit_learns_in_the_targets_unit(name: Any, model: Any) -> None:
    task = problem(dataset=DIABETES, metric="mae")
    mean, deviation = task.y_scale
    model.fit(task.train.x.numpy(), task.train.y.numpy())
    expected = sk.mean_absolute_error(
        task.test.y.numpy() * deviation + mean, model.predict(task.test.x.numpy()) * deviation + mean
    )
    assert reference_rows(task, name)[1]["test"].mean() == pytest.approx(expected, rel=1e-5)


def test_a_sum_of_columns_shows_as_one(tmp_path: Path) -> None:
    net, tax = np.random.default_rng(1).integers(1, 10**6, (2, 300)) / 100
    frame = pd.DataFrame({"net": net, "tax": tax, "gross": net + tax})
    frame.to_csv(tmp_path / "t.csv", index=False)
    task = problem(dataset={"kind": "file", "path": str(tmp_path / "t.csv"), "target": "gross"}, metric="mae")
    assert reference_rows(task, "linear")[1]["test"].mean() < 1e-4 * frame["gross"].std()
    assert (fitting.penalty(99, 10), fitting.penalty(100, 10)) == (1.0, pytest.approx(1e-4))


def test_more_rows_than_it_fits_are_drawn_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(dataset=WINE)
    monkeypatch.setattr(fitting, "MOST_ROWS", 30)
    trained, found = reference_rows(task, "linear")
    assert trained == 30
    again = reference_rows(task, "linear")[1]
    assert np.array_equal(found["test"], again["test"])
    assert len(found["test"]) == len(task.test.y)


def test_images_have_none() -> None:
    assert reference_seconds(problem(dataset={"kind": "builtin", "name": "digits"})) is None
    found = reference_seconds(problem(dataset=WINE))
    assert found is not None
    assert 0 < found["linear"] < found["trees"]


def test_one_that_cannot_be_fitted_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, *_: int, classes: bool) -> Any:
        del classes
        if name == "trees":
            raise ValueError("no")
        return LogisticRegression()

    monkeypatch.setattr(fitting, "_model", broken)
    unit = UnitSpec(key="reference-0", kind="reference", rung=0, horizon=1, split="test", trials=[],
                    references=["linear", "trees"])  # fmt: skip
    result = run_reference(problem(dataset=WINE), unit)
    assert [one.name for one in result.references] == ["linear"]
    assert len(unpack(result.references[0].rows["test"])) == len(problem(dataset=WINE).test.y)


# -- in a study ------------------------------------------------------------------------------------------------------------

NETWORK = bowl({"adamw": (0.01, 1.0), "sgd": (0.1, 1.0)})
STUDY = {"search": {"optimizers": ["adamw", "sgd"]}}
CHEAP = {"linear": 0.01, "trees": 0.1}


def answered(beside: dict[str, float], noise: float = 0.02) -> tuple[StudyView, Reference]:
    view, end = simulate(spec(**STUDY), NETWORK, noise, report=probe_report(reference_s=CHEAP), beside=beside)
    assert end.failure is None
    found = recommend(view)
    assert found.reference is not None
    assert found.notes[0] == found.reference.sentence
    return view, found.reference


def test_trees_that_beat_every_network_are_said_to() -> None:
    view, found = answered({"linear": 1.5, "trees": 0.5})
    best, other = found.models
    assert (best.name, best.than_network, best.than_any_network) == ("trees", "better", True)
    assert (other.name, other.than_network, other.than_any_network) == ("linear", "worse", False)
    assert best.mean == pytest.approx(0.5, abs=1e-6)
    assert best.difference == pytest.approx(-0.5, abs=0.03)
    assert best.difference_ci95[0] < best.difference < best.difference_ci95[1] < 0
    assert found.sentence.startswith(
        "Gradient-boosted trees reach loss 0.5 on the same rows without tuning, ridge regression 1.5: better than any network "
    )
    kinds = [unit.spec.kind for unit in view.units]
    assert kinds.count("reference") == 5
    assert kinds.index("reference") > kinds.index("confirm")


def test_what_is_not_shown_is_not_claimed() -> None:
    _, found = answered({"linear": 1.5, "trees": 1.0}, noise=0.002)
    assert found.models[0].than_network == "same"
    assert "about the same as the network" in found.sentence
    _, found = answered({"linear": 1.5, "trees": 1.0}, noise=0.3)
    assert found.models[0].than_network == "not_told_apart"
    assert "these rows do not tell it from the network" in found.sentence


def test_a_network_that_is_better_is_said_to_be() -> None:
    _, found = answered({"linear": 1.5, "trees": 1.3})
    assert [one.than_network for one in found.models] == ["worse", "worse"]
    assert "not as good as the network" in found.sentence


def test_a_budget_that_is_too_small_says_so_and_data_that_are_no_table_nothing() -> None:
    dear = probe_report(reference_s={"linear": 30.0, "trees": 90.0})
    view, _ = simulate(spec(**STUDY), NETWORK, report=dear)
    found = recommend(view)
    assert found.reference == Reference(models=[], sentence=TOO_DEAR)
    assert TOO_DEAR in found.notes
    view, _ = simulate(spec(**STUDY), NETWORK, report=probe_report())
    assert recommend(view).reference is None


def test_what_is_affordable_is_a_tenth_of_a_budget_in_time() -> None:
    def names(seconds: float | None, **each: float) -> list[str]:
        budget = {"trials": 60} if seconds is None else {"seconds": seconds}
        return list(affordable_references(spec(budget=budget), probe_report(reference_s=each))[0])

    assert names(60.0, linear=0.1, trees=0.7) == ["linear", "trees"]
    assert names(60.0, linear=0.1, trees=0.9) == ["linear"]
    assert names(10.0, linear=0.01, trees=0.02) == []
    # The line by itself, where the library takes all of a tenth.
    assert names(15.0, linear=0.06, trees=0.4) == ["linear"]
    assert names(15.0, linear=0.4, trees=0.5) == []
    # Without a limit in time nobody waits for more than a minute.
    assert names(None, linear=1.0, trees=10.0) == ["linear", "trees"]
    assert names(None, linear=1.0, trees=11.0) == ["linear"]


@pytest.mark.slow
def test_the_confirmation_leaves_time_for_them() -> None:
    report = probe_report(reference_s=CHEAP)
    study = spec(**STUDY, budget={"seconds": 60.0})
    view, _ = simulate(study, NETWORK, report=report, until="confirm")
    owed = owed_seconds(view, report)
    assert owed == pytest.approx(1.5 + 5 * 0.11)
    without = left_steps(view, probe_report())
    assert left_steps(view, report) == pytest.approx(without * (1 - owed / (60 - view.elapsed_s)))
    done, _ = simulate(study, NETWORK, report=report, beside={"linear": 1.5, "trees": 1.3})
    assert owed_seconds(done, report) == 0
    assert owed_seconds(view.model_copy(update={"finishing": True}), report) == 0
