"""Row scores: pooled estimates are scikit-learn's, scores average to them, influence is what leaving a row out does."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

sys.path.insert(0, str(Path(__file__).parent))
from evidence_sources import FOLDS, auroc_values, fold_sizes

from optim_core.recommend.row_scores import difference_scores, filled, row_scores, row_unit, unlike

ROWS = 83
METRICS = ("accuracy", "balanced_accuracy", "loss", "mae", "rmse", "r2", "f1", "auroc")


def stored(metric: str, rng: np.random.Generator, wide: int = 2, seeds: int = 3, folds: int = FOLDS, classes: int = 3):
    """Stored values and targets (or None) of runs that are right more often than not, and what scikit-learn needs of them."""
    values, targets, predictions = [], [], []
    for n in fold_sizes(ROWS, folds):
        if metric in ("accuracy", "balanced_accuracy", "f1", "auroc"):
            y = np.r_[np.arange(classes), np.arange(classes), rng.integers(0, classes, n - 2 * classes)]
            scores = rng.standard_normal((wide, seeds, n, classes)) + 1.5 * (y[:, None] == np.arange(classes))
            p = scores.argmax(-1)
            kept = {"f1": p, "auroc": auroc_values(y, scores)}.get(metric, p == y)
            values.append(kept.astype(np.float64))
        else:
            y = rng.standard_normal(n) * 3 + 2
            p = y + rng.standard_normal((wide, seeds, n))
            values.append(np.abs(p - y) if metric in ("mae", "loss") else (p - y) ** 2)
        targets.append(y)
        predictions.append(p)
    return values, targets, predictions


def together(targets: list[np.ndarray], predictions: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.concatenate([np.broadcast_to(y, p.shape).ravel() for y, p in zip(targets, predictions, strict=True)])
    return truth, np.concatenate([p.ravel() for p in predictions])


@pytest.mark.parametrize("folds", [1, 5])
@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "mae", "rmse", "r2", "f1"])
def test_pooled_estimates_are_scikit_learns_on_all_runs_together(
    metric: str, weighted: bool, wide: int, folds: int
) -> None:
    rng = np.random.default_rng(1)
    values, targets, predictions = stored(metric, rng, wide, folds=folds)
    truth, answers = together(targets, predictions)
    weights = [rng.uniform(0.1, 3, len(y)) for y in targets] if weighted else None
    w = None if weights is None else together(weights, predictions)[0]
    score = {
        "accuracy": accuracy_score,
        "balanced_accuracy": balanced_accuracy_score,
        "mae": mean_absolute_error,
        "rmse": root_mean_squared_error,
        "r2": r2_score,
        "f1": functools.partial(f1_score, average="macro"),
    }[metric]
    found = row_scores(values, metric, targets, weights)
    assert found.value == pytest.approx(score(truth, answers, sample_weight=w), abs=1e-12)
    # And what the interval is made of has the estimate as its mean.
    rows = np.concatenate([fold.mean(axis=(0, 1)) for fold in found.rows])
    assert rows.mean() == pytest.approx(found.value, abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "rmse", "r2", "f1"])
def test_a_row_of_weight_two_says_twice_as_much_about_the_estimate(metric: str) -> None:
    """Leaving a row out moves the weighted estimate by its row score, as far as one row in many moves anything."""
    rng = np.random.default_rng(8)
    values, targets, _ = stored(metric, rng, classes=2)
    weights = [rng.uniform(0.2, 2, len(y)) for y in targets]
    found = row_scores(values, metric, targets, weights)
    pseudo, delta = [], []
    for k in range(FOLDS):
        for i in range(values[k].shape[-1]):
            kept, goal = without(values, targets, k, i)
            left = row_scores(kept, metric, goal, without(values, weights, k, i)[1]).value
            pseudo.append(found.value + (ROWS - 1) * (found.value - left))
            delta.append(found.rows[k].mean(axis=(0, 1))[i])
    assert np.corrcoef(pseudo, delta)[0, 1] > 0.99
    assert np.std(pseudo) == pytest.approx(np.std(delta), rel=0.1)


@pytest.mark.parametrize("classes", [2, 4])
def test_f1_of_two_and_of_more_classes(classes: int) -> None:
    values, targets, predictions = stored("f1", np.random.default_rng(2), classes=classes)
    truth, answers = together(targets, predictions)
    assert row_scores(values, "f1", targets).value == pytest.approx(f1_score(truth, answers, average="macro"))


def test_a_class_that_only_predictions_name_has_no_share_in_f1() -> None:
    y = np.array([0, 0, 1, 1, 1])
    named = np.array([[[0.0, 5.0, 1.0, 1.0, 0.0]]])
    expected = f1_score(y, named[0, 0], average="macro", labels=[0, 1])
    assert row_scores([named], "f1", [y]).value == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_row_scores_average_to_the_estimate_though_folds_differ_in_size(metric: str) -> None:
    values, targets, _ = stored(metric, np.random.default_rng(3))
    found = row_scores(values, metric, targets)
    rows = np.concatenate([fold.mean(axis=(0, 1)) for fold in found.rows])
    assert len(rows) == ROWS
    assert rows.mean() == pytest.approx(found.value, abs=1e-12)


def without(values: list[np.ndarray], targets: list[np.ndarray], fold: int, row: int):
    keep = [np.delete(v, row, axis=-1) if k == fold else v for k, v in enumerate(values)]
    return keep, [np.delete(y, row) if k == fold else y for k, y in enumerate(targets)]


@pytest.mark.parametrize("metric", ["f1", "r2", "rmse", "balanced_accuracy"])
def test_scores_agree_with_leaving_one_row_out(metric: str) -> None:
    """The jackknife's pseudo-value s + (N − 1)(s − s₋ᵢ) and the delta method agree up to O(1/N)."""
    values, targets, _ = stored(metric, np.random.default_rng(4), classes=2)
    found = row_scores(values, metric, targets)
    pseudo, delta = [], []
    for k in range(FOLDS):
        for i in range(values[k].shape[-1]):
            left = row_scores(*_args(metric, without(values, targets, k, i))).value
            pseudo.append(found.value + (ROWS - 1) * (found.value - left))
            delta.append(found.rows[k].mean(axis=(0, 1))[i])
    pseudo, delta = np.array(pseudo), np.array(delta)
    assert np.corrcoef(pseudo, delta)[0, 1] > 0.995
    assert pseudo.std() == pytest.approx(delta.std(), rel=0.1)
    assert pseudo.mean() == pytest.approx(delta.mean(), abs=3 / ROWS)


def _args(metric: str, parts: tuple[list[np.ndarray], list[np.ndarray]]):
    return parts[0], metric, parts[1]


@pytest.mark.parametrize("classes", [2, 3])
def test_stored_influence_values_of_the_area_agree_with_leaving_one_row_out(classes: int) -> None:
    """The definition that the engine has to store: its mean is the area, its spread the jackknife's."""
    rng, n = np.random.default_rng(5), 120
    y = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    scores = rng.standard_normal((n, classes)) + (y[:, None] == np.arange(classes))
    u = auroc_values(y, scores)
    left = np.array([auroc_values(np.delete(y, i), np.delete(scores, i, axis=0)).mean() for i in range(n)])
    pseudo = n * u.mean() - (n - 1) * left
    assert np.corrcoef(pseudo, u)[0, 1] > 0.995
    assert pseudo.std() == pytest.approx(u.std(), rel=0.1)


def test_differences_are_positive_where_the_rival_is_better_whatever_the_direction() -> None:
    good, bad = [np.full((1, 2, 4), 0.1)], [np.full((1, 2, 4), 0.4)]
    for metric in ("loss", "mae", "rmse"):
        diff, rival, base = difference_scores(good, bad, metric)
        assert diff.value > 0
        assert diff.value == pytest.approx(base.value - rival.value)
    diff, rival, base = difference_scores(bad, good, "accuracy")
    assert diff.value == pytest.approx(0.3)
    assert rival.value - base.value == pytest.approx(0.3)
    assert diff.rows[0] == pytest.approx(0.3)


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_perfect_predictions_and_constant_targets_have_finite_scores(metric: str) -> None:
    perfect, y = [np.zeros((2, 2, 6))], [np.full(6, 3.0)]
    assert np.isfinite(row_scores(perfect, metric, y).rows[0]).all()
    assert row_scores(perfect, "r2", y).value == 1
    assert row_scores([np.ones((2, 2, 6))], "r2", y).value == 0
    assert row_scores(perfect, "rmse").value == 0


def test_a_metric_that_needs_targets_says_so() -> None:
    for metric in ("f1", "balanced_accuracy", "auroc", "average_precision", "r2"):
        with pytest.raises(ValueError, match="targets"):
            row_scores([np.zeros((1, 2, 3))], metric)


# Diverged runs


def test_a_diverged_run_is_wrong_on_every_row_even_where_nobody_else_ever_was() -> None:
    right = [np.ones((1, 2, 5))]
    broken = [np.stack([[np.full(5, np.nan), np.ones(5)]])]
    worsts = {"accuracy": 0.0, "balanced_accuracy": 0.0, "auroc": 0.0, "average_precision": 0.0, "f1": -1.0}
    for metric, worst in worsts.items():
        _, after = filled([right, broken], metric)
        assert (after[0][0, 0] == worst).all()
        assert (after[0][0, 1] == 1).all()


def test_a_diverged_run_gets_the_largest_error_that_any_run_had_on_the_row() -> None:
    a = [np.array([[[1.0, 5.0, 2.0], [3.0, 1.0, 2.0]]])]
    b = [np.array([[[np.nan, np.nan, np.nan], [0.0, 0.0, 9.0]]])]
    kept, after = filled([a, b], "mae")
    assert after[0][0, 0].tolist() == [3.0, 5.0, 9.0]
    assert after[0][0, 1].tolist() == [0.0, 0.0, 9.0]
    assert np.array_equal(kept[0], a[0])


def test_a_run_with_one_value_that_is_not_finite_diverged() -> None:
    a = [np.array([[[1.0, 2.0], [np.inf, 0.0]]])]
    assert filled([a], "loss")[0][0][0, 1].tolist() == [1.0, 2.0]


def test_no_run_at_all_is_an_error_and_so_are_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="fold 0"):
        filled([[np.full((1, 2, 3), np.nan)]], "rmse")
    with pytest.raises(ValueError, match="different rows"):
        filled([[np.ones((1, 2, 3))]], "f1", [np.zeros(4)])


# What the rows resolve


def test_rows_judged_differently_are_counted_once_over_all_runs() -> None:
    a = [np.ones((2, 2, 6)), np.ones((2, 2, 5))]
    b = [np.ones((2, 2, 6)), np.ones((2, 2, 5))]
    b[0][0, 0, 2] = b[0][1, 1, 2] = b[1][0, 1, 4] = 0
    for metric in ("accuracy", "f1", "mae"):
        assert unlike(a, b, metric) == 2


def test_rows_that_all_differ_in_the_same_way_are_as_coarse_as_rows_that_agree() -> None:
    assert unlike([np.ones((1, 2, 50))], [np.zeros((1, 2, 50))], "accuracy") == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_the_area_counts_rows_whose_rank_changed_not_all(classes: int) -> None:
    rng, n = np.random.default_rng(6), 200
    y = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    scores = 0.2 * rng.standard_normal((1, 2, n, classes)) + (y[:, None] == np.arange(classes))
    scores = scores - scores.mean(-1, keepdims=True)
    other = scores.copy()
    # One row of class 1 falls to the bottom of its own class: it passes some rows of the rest, and those are changed as well.
    place = np.flatnonzero(y == 1)[0]
    other[0, 0, place, 1] = np.sort(other[0, 0, y != 1, 1])[-3]
    stored_, changed = (auroc_values(y, s).astype(np.float32) for s in (scores, other))
    assert unlike([stored_], [stored_], "auroc", [y]) == 0
    assert 1 <= unlike([changed], [stored_], "auroc", [y]) <= 6


def test_the_step_of_one_row() -> None:
    y = [np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])]
    same = [np.broadcast_to(y[0], (1, 2, 10)).astype(np.float64)]
    assert row_unit(same, same, "accuracy") == 1
    assert row_unit(same, same, "auroc", y) == pytest.approx(1 / 0.2)
    assert row_unit(same, same, "f1", y) == pytest.approx(2 / 0.4 / 2)
    assert row_unit(same, same, "balanced_accuracy", y) == pytest.approx(1 / 0.2 / 2)
    # Two positives above all else, then a negative above them: 1 becomes (1/2 + 2/3)/2, which its row score shows ten times.
    assert row_unit(same, same, "average_precision", y) == pytest.approx(1.5 / 0.2)
    assert row_unit(same, same, "accuracy", None, [np.r_[3.0, np.ones(9)]]) == pytest.approx(3 / 1.2)
    assert row_unit(same, same, "rmse") == row_unit(same, same, "r2", y) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(METRICS), wide=st.integers(1, 2), seeds=st.integers(1, 3))
def test_the_order_of_rows_and_seeds_means_nothing(seed: int, metric: str, wide: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    values, targets, _ = stored(metric, rng, wide, seeds)
    order = [rng.permutation(v.shape[-1]) for v in values]
    other_seeds = rng.permutation(seeds)
    moved = [v[:, other_seeds][..., o] for v, o in zip(values, order, strict=True)]
    moved_targets = [y[o] for y, o in zip(targets, order, strict=True)]
    found, again = row_scores(values, metric, targets), row_scores(moved, metric, moved_targets)
    assert again.value == pytest.approx(found.value, abs=1e-12)
    for u, v, o in zip(found.rows, again.rows, order, strict=True):
        np.testing.assert_allclose(u[:, other_seeds][..., o], v, atol=1e-10)


def test_the_perplexity_is_that_of_the_pooled_loss_and_its_spread_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(11)
    folds = [np.abs(rng.normal(1.6, 0.3, (2, 2, n)) + rng.normal(0, 0.4, n)) for n in fold_sizes(400, FOLDS)]
    found = row_scores(folds, "perplexity")
    rows = np.concatenate([fold.mean(axis=(0, 1)) for fold in folds])
    assert found.value == pytest.approx(np.exp(rows.mean()), rel=1e-12)
    scores = np.concatenate([fold.mean(axis=(0, 1)) for fold in found.rows])
    assert scores.mean() == pytest.approx(found.value, rel=1e-12)
    drawn = np.exp(rows[rng.integers(0, len(rows), (4000, len(rows)))].mean(axis=1))
    assert scores.std() / len(rows) ** 0.5 == pytest.approx(drawn.std(), rel=0.05)


def test_a_hopeless_loss_has_a_finite_perplexity() -> None:
    found = row_scores([np.full((1, 1, 4), 1e6)], "perplexity")
    assert np.isfinite(found.value)
    assert np.isfinite(found.rows[0]).all()
