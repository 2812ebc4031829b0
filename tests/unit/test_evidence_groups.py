"""Rows that are not independent: what is learned from copies and groups is no skill, and intervals count groups."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, probe_report, simulate, spec

from optim_core.data import understand
from optim_core.engine import probe, run_pack
from optim_core.recommend.evidence import evidence
from optim_core.recommend.interval import difference
from optim_core.search.confirm import folds_of
from optim_core.spec.rowscores import unpack
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import TrialParams, UnitSpec
from optim_core.spec.validation import parse_spec
from optim_core.tasks import ProblemSource, row_scores

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.3, 1.2), "lion": (0.0003, 0.8)})


def a_study(folder: Path, table: pd.DataFrame, **rest):
    table.to_csv(folder / "t.csv", index=False)
    raw = {
        "model": {"kind": "catalogue", "name": "linear"},
        "dataset": {"kind": "file", "path": str(folder / "t.csv"), "target": "y"},
        **rest,
    }
    return parse_spec(raw)


def known_by_heart(study) -> float:
    """Test accuracy, over all folds, of a model that knows its training rows by heart."""
    found = understand(study)
    right = []
    for fold in range(len(found.splits)) if len(found.splits) > 1 else [None]:
        arrays = found.arrays(fold)
        nearest = KNeighborsClassifier(1).fit(arrays.x_train, arrays.y_train)
        right += (nearest.predict(arrays.x_test) == arrays.y_test).tolist()
    return float(np.mean(right))


def test_copies_of_rows_with_random_labels_teach_nothing(tmp_path: Path) -> None:
    """Known truth: labels at random, each row eight times, so that accuracy on new rows is one half."""
    rng = np.random.default_rng(0)
    one = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd")).assign(y=rng.integers(0, 2, 400))
    copies = one.iloc[rng.permutation(np.repeat(np.arange(400), 8))]
    # Of 400 independent rows: ± 4 standard errors.
    assert abs(known_by_heart(a_study(tmp_path, copies)) - 0.5) < 0.1
    # A little noise hides the copies, and shows what they would do.
    hidden = copies.assign(a=copies["a"] + 1e-4 * rng.normal(size=len(copies)))
    assert known_by_heart(a_study(tmp_path, hidden)) > 0.95


def test_a_group_on_one_side_does_not_give_its_label_away(tmp_path: Path) -> None:
    """Known truth: what differs between patients has nothing to do with the label that each has as a whole."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(200), 10)
    x = rng.normal(size=(200, 3))[patient] + 0.05 * rng.normal(size=(2000, 3))
    table = pd.DataFrame(x, columns=list("abc")).assign(y=rng.integers(0, 2, 200)[patient], p=patient)
    table = table.iloc[rng.permutation(2000)]
    by_patient = a_study(tmp_path, table, split={"by": "group", "column": "p"})
    assert abs(known_by_heart(by_patient) - 0.5) < 0.15
    assert known_by_heart(a_study(tmp_path, table.drop(columns="p"))) > 0.9


def test_copies_count_as_one_in_a_difference() -> None:
    """Each of 100 rows eight times says what 100 rows say, finest difference included."""
    rng = np.random.default_rng(2)
    rival, base = (
        [np.tile((rng.random(20) < share).astype(float), (2, 2, 1)) for _ in range(5)] for share in (0.9, 0.7)
    )
    groups = [np.repeat(np.arange(20), 8) for _ in range(5)]
    eight = [[np.repeat(fold, 8, axis=-1) for fold in each] for each in (rival, base)]
    few, known = (
        difference(rival, base, "accuracy", alpha=0.05),
        difference(*eight, "accuracy", alpha=0.05, groups=groups),
    )
    assert known.half == pytest.approx(few.half)
    assert difference(*eight, "accuracy", alpha=0.05).half < 0.6 * few.half
    same = difference(base, base, "accuracy", alpha=0.05)
    assert difference(eight[1], eight[1], "accuracy", alpha=0.05, groups=groups).floor == pytest.approx(
        8 * same.floor / 8
    )
    assert same.floor == pytest.approx(-np.log(0.05) / 100)


@pytest.mark.parametrize("folds", [3, 4, 5])
def test_as_many_folds_as_take_turns_are_a_whole_confirmation(folds: int) -> None:
    view, _ = simulate(spec(budget={"trials": 60}), TRUTH, report=probe_report(folds=folds))
    confirmed = {u.spec.fold for u in view.units if u.spec.kind == "confirm"}
    assert confirmed == set(range(folds))
    assert folds_of(view.spec, probe_report(folds=folds)) == list(range(folds))
    found = evidence(view)
    assert found is not None
    assert (found.fold_n, found.whole, found.wide, found.rows) == (folds, True, True, 100)


def test_a_split_by_time_is_confirmed_on_its_one_split() -> None:
    raw = {"dataset": {"kind": "file", "path": "t.csv", "target": "y"}, "split": {"by": "time", "column": "day"}}
    assert folds_of(spec(**raw), probe_report()) == [None]


@pytest.mark.parametrize("by", ["group", "time", "random"])
def test_groups_travel_from_the_table_to_the_evidence(tmp_path: Path, by: str) -> None:
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"a": rng.normal(size=300), "y": rng.normal(size=300), "p": rng.integers(0, 30, 300)})
    split = {"by": by} if by == "random" else {"by": by, "column": "p"}
    study = a_study(tmp_path, table, split=split, metric="mae", training={"steps": 5, "batch_size": 512})
    source = ProblemSource(study)
    problem = source.problem()
    trial = TrialParams(
        number=0, configuration=default_configuration("adamw", study.search), seed=1, stage="confirm", origin="confirmation",
        roles=["adamw_default"],
    )  # fmt: skip
    unit = UnitSpec(key="c", kind="confirm", rung=0, horizon=5, split="test", trials=[trial])
    result = run_pack(problem, unit)
    assert (result.groups is None) == (by == "random")
    if result.groups is not None:
        assert problem.together is not None
        labels = np.asarray(unpack(result.groups))
        assert len(labels) == problem.rows["test"]
        assert np.array_equal(pd.factorize(labels)[0], pd.factorize(problem.together["test"])[0])
    report = probe(problem).probe
    assert report is not None
    # The batch that is used is what the answer will say.
    assert report.batch_size == problem.batch_size < 200
    assert report.folds == (1 if by == "time" else 5)


def test_blocks_of_many_rows_are_cut_from_whole_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(row_scores, "MOST_ROWS", 50)
    monkeypatch.setattr(row_scores, "BLOCKS", 20)
    rng = np.random.default_rng(5)
    group = rng.permutation(np.repeat(np.arange(60), 15))
    table = pd.DataFrame({"a": rng.normal(size=900), "y": rng.normal(size=900), "p": group})
    study = a_study(tmp_path, table, split={"by": "group", "column": "p"}, metric="mae")
    problem = ProblemSource(study).problem()
    assert problem.together is not None
    labels = problem.together["test"]
    numbers = np.unique(labels, return_inverse=True)[1]
    # Twelve groups of 15 rows in twenty blocks of nine: a score that is its row's group is nearly pure in each block.
    scores = torch.from_numpy(numbers.astype(np.float64))[None]
    blocks = row_scores.in_blocks(scores, problem.test.y, "mae", together=labels)[0]
    kept = row_scores.row_groups(problem)
    assert kept is not None
    assert blocks.shape == kept.shape == (20,)
    assert set(kept) <= set(numbers)
    assert np.abs(blocks.numpy() - kept).mean() < 1.5
