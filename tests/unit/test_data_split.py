"""Splits: disjoint, complete, reproducible, every class in each; and the hash of what came out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optim_core.data import inspect, prepare, understand
from optim_core.data.limits import MIN_ROWS
from optim_core.data.measurable import check_measurable
from optim_core.data.prepare import hash_arrays
from optim_core.data.split import SplitRows, split_rows
from optim_core.spec.errors import DataError
from optim_core.spec.problem import (
    BUILTIN_TASKS,
    BUILTIN_TEXTS,
    FOLDS,
    BuiltinDataset,
    CatalogueModel,
    FileDataset,
    StudySpec,
    Training,
)


def spec_for(name: str = "iris", seed: int = 0, training: Training | None = None, **shape: object) -> StudySpec:
    dataset = BuiltinDataset(name=name, **shape)  # type: ignore[arg-type]
    return StudySpec(
        model=CatalogueModel(name="mlp"), dataset=dataset, seed=seed, training=training or Training(batch_size=1)
    )  # fmt: skip


OWN = Training(batch_size=1, validation_fraction=0.1, test_fraction=0.3)


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def parts_of(rows: SplitRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows.train, rows.validation, rows.test


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**31 - 1),
    validation=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.49),
)
def test_a_single_split_partitions_the_rows(sizes: list[int], seed: int, validation: float, test: float) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    # Twice a fifth means five folds; fewer than six rows give no part its two.
    assume(not validation == test == 1 / FOLDS and sum(sizes) >= 6)
    training = Training(batch_size=1, validation_fraction=validation, test_fraction=test)
    (rows,) = split_rows(spec_for(seed=seed, training=training), y, names(len(sizes)))
    parts = parts_of(rows)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert all(set(y[part]) == set(range(len(sizes))) for part in parts)
    (again,) = split_rows(spec_for(seed=seed, training=training), y, names(len(sizes)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, parts_of(again), strict=True))


@settings(max_examples=80, deadline=None)
@given(sizes=st.lists(st.integers(3, 60), min_size=3, max_size=6), seed=st.integers(0, 2**31 - 1), data=st.data())
def test_five_folds_take_turns(sizes: list[int], seed: int, data: st.DataObject) -> None:
    y = data.draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()).map(np.array))
    assume(len(y) >= MIN_ROWS)
    splits = split_rows(spec_for(seed=seed), y, names(len(sizes)))
    assert len(splits) == FOLDS
    tests = [rows.test for rows in splits]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(y)))
    shares = np.array([np.bincount(y[test], minlength=len(sizes)) for test in tests])
    for many in (shares, shares.sum(axis=1, keepdims=True)):
        assert (many.max(axis=0) - many.min(axis=0)).max() <= 1
    for k, rows in enumerate(splits):
        assert all((np.diff(part) > 0).all() for part in parts_of(rows))
        assert np.array_equal(rows.validation, tests[(k + 1) % FOLDS])
        others = [tests[(k + step) % FOLDS] for step in (2, 3, 4)]
        assert np.array_equal(rows.train, np.sort(np.concatenate(others)))
        assert set(y[rows.train]) == set(range(len(sizes)))
    again = split_rows(spec_for(seed=seed), y, names(len(sizes)))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(splits, again, strict=True))


@pytest.mark.parametrize("training", [Training(batch_size=1), OWN])
def test_another_seed_splits_otherwise(training: Training) -> None:
    y = np.zeros(100)
    one, other = (split_rows(spec_for(seed=seed, training=training), y, None)[0] for seed in (0, 1))
    assert not np.array_equal(one.test, other.test)


def test_fractions_are_kept() -> None:
    (rows,) = split_rows(spec_for(training=OWN), np.zeros(1000), None)
    assert rows.counts == {"train": 600, "validation": 100, "test": 300}


def test_what_is_left_over_trains_in_the_search() -> None:
    assert split_rows(spec_for(), np.zeros(1003), None)[0].counts == {"train": 603, "validation": 200, "test": 200}


def test_splits_that_would_be_too_small() -> None:
    with pytest.raises(DataError, match="split would have 1 row; at least 2"):
        split_rows(spec_for(), np.zeros(6), None)


def test_small_fractions_of_small_tables_are_rounded_up() -> None:
    tiny = Training(batch_size=1, validation_fraction=0.01, test_fraction=0.01)
    assert split_rows(spec_for(training=tiny), np.zeros(12), None)[0].counts == {"train": 8, "validation": 2, "test": 2}


def test_the_area_under_the_curve_takes_fewer_folds_where_a_class_is_rare() -> None:
    y = np.array([0] * 40 + [1] * 2)
    spec = spec_for().model_copy(update={"metric": "auroc"})
    for rare, folds in ((5, 5), (4, 4), (3, 3)):
        splits = split_rows(spec, np.array([0] * 40 + [1] * rare), ["a", "b"])
        assert len(splits) == folds
        assert all(
            set(y[part]) == {0, 1} for y in [np.array([0] * 40 + [1] * rare)] for s in splits for part in parts_of(s)
        )
    with pytest.raises(DataError, match="two classes in each fold; the smallest class has 2 rows"):
        split_rows(spec, y, ["a", "b"])


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_ranks_need_two_classes_in_each_fold(metric: str) -> None:
    y, names = np.array([0] * 40 + [1] * 4), ["a", "b"]
    with pytest.raises(
        DataError, match=f"{metric} needs rows of two classes in each fold; the smallest class has 4 rows"
    ):
        check_measurable(metric, y, names, split_rows(spec_for(), y, names))
    check_measurable("balanced_accuracy", y, names, split_rows(spec_for(), y, names))
    enough = np.append(y, 1)
    check_measurable(metric, enough, names, split_rows(spec_for(), enough, names))


def test_a_relative_error_of_nothing_is_refused() -> None:
    y = np.linspace(1, 9, 50)
    check_measurable("mape", y, None, split_rows(spec_for(), y, None))
    y[[3, 30]] = 0.0, 1e-9
    with pytest.raises(DataError, match="mape is undefined where the target is 0, as in 2 rows: take mae or rmse"):
        check_measurable("mape", y, None, split_rows(spec_for(), y, None))
    check_measurable("mae", y, None, split_rows(spec_for(), y, None))


def table(folder: Path, target: list[str], values: list[str]) -> StudySpec:
    """A study of a table with a number column and a category column."""
    rows = zip(values, target, strict=True)
    lines = [f"{value},{'odd' if i % 9 == 0 else 'abc'[i % 3]},{y}" for i, (value, y) in enumerate(rows)]
    (folder / "t.csv").write_text("\n".join(["value,kind,y", *lines]) + "\n")
    dataset = FileDataset(path=str(folder / "t.csv"), target="y")
    return StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset, training=Training(batch_size=4))


@pytest.mark.parametrize("fold", range(FOLDS))
def test_what_lies_outside_the_training_rows_teaches_the_encoding_nothing(tmp_path: Path, fold: int) -> None:
    rng = np.random.default_rng(0)
    target = [f"{value:.3f}" for value in rng.normal(size=60)]
    values = ["" if i % 7 == 0 else f"{value:.3f}" for i, value in enumerate(rng.normal(size=60))]
    spec = table(tmp_path, target, values)
    before = understand(spec)
    rows = before.splits[fold]
    outside = np.concatenate([rows.validation, rows.test])
    for i in outside:
        target[i], values[i] = "99", "" if i == outside[0] else f"{50 + i}.25"
    after = understand(table(tmp_path, target, values))
    one, other = before.arrays(fold), after.arrays(fold)
    assert np.array_equal(one.x_train, other.x_train)
    assert np.array_equal(one.y_train, other.y_train)
    assert one.y_scale == other.y_scale
    assert not np.array_equal(one.x_test, other.x_test)
    assert one.hash != other.hash
    assert abs(one.y_train.mean()) < 1e-6


def test_one_reading_gives_every_fold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spec = table(tmp_path, [f"{v:.3f}" for v in rng.normal(size=60)], [f"{v:.3f}" for v in rng.normal(size=60)])
    found = understand(spec)
    (tmp_path / "t.csv").rename(tmp_path / "moved.csv")
    arrays = [found.arrays(fold) for fold in range(FOLDS)]
    assert len({each.hash for each in arrays}) == FOLDS
    assert found.arrays().hash == arrays[0].hash
    assert sum(len(each.x_test) for each in arrays) == 60
    (tmp_path / "moved.csv").rename(tmp_path / "t.csv")
    assert [prepare(spec, fold=fold).hash for fold in range(FOLDS)] == [each.hash for each in arrays]
    (sentence,) = [said for said in found.report if said.startswith("Split")]
    assert sentence == (
        "Split 60 rows at random into 36 for training, 12 for validation and 12 for the final test; "
        "the confirmation lets each of five folds be the test rows in turn."
    )


def test_a_split_of_its_own_has_no_folds() -> None:
    found = understand(spec_for(training=OWN))
    assert any(said.endswith("for the final test, with every class in each.") for said in found.report)
    for fold in (0, 1):
        with pytest.raises(ValueError, match="no folds"):
            found.arrays(fold)


def test_a_target_that_one_fold_could_not_learn_is_refused_before_anything_trains(tmp_path: Path) -> None:
    spec = StudySpec(
        model=CatalogueModel(name="mlp"),
        dataset=FileDataset(path=str(tmp_path / "t.csv"), target="y"),
        task="regression",
        training=Training(batch_size=4),
    )
    rows = split_rows(spec, np.zeros(40), None)
    # All that differs lies in the two folds that the fourth split leaves out.
    target = np.zeros(40)
    target[rows[3].test[0]] = 1.0
    lines = [f"{i % 11},{value}" for i, value in enumerate(target)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *lines]) + "\n")
    with pytest.raises(DataError, match="the same in every training row"):
        inspect(spec.dataset, spec)


@pytest.mark.parametrize("name", sorted(set(BUILTIN_TASKS) - BUILTIN_TEXTS))
def test_every_bundled_data_set_prepares_alike_twice(name: str) -> None:
    first, again = prepare(spec_for(name)), prepare(spec_for(name))
    assert first.hash == again.hash
    assert first.task == BUILTIN_TASKS[name]
    assert first.x_train.dtype == np.float32
    assert np.isfinite(first.x_train).all()
    assert np.isfinite(first.x_test).all()
    assert first.x_train.shape[1:] == first.feature_shape
    assert prepare(spec_for(name, seed=1)).hash != first.hash
    assert first.report
    assert all(sentence.endswith(".") for sentence in first.report)


def test_synthetic_shapes_are_as_asked() -> None:
    arrays = prepare(spec_for("synthetic_classification", samples=300, features=7, classes=5, noise=0.3))
    assert arrays.feature_shape == (7,)
    assert len(arrays.classes or []) == 5
    assert len(arrays.x_train) == 180
    sparse = prepare(spec_for("sparse_classification"))
    assert set(np.unique(sparse.x_train)) == {0.0, 1.0}
    assert sparse.x_train.mean() < 0.1


def test_synthetic_shapes_that_do_not_fit() -> None:
    for name, shape, pointer in (
        ("teacher_student", {"classes": 3}, "/dataset/classes"),
        ("noisy_labels", {"noise": 1.5}, "/dataset/noise"),
        ("synthetic_regression", {"samples": 1_000_000, "features": 10_000}, "/dataset/samples"),
    ):
        with pytest.raises(DataError) as caught:
            prepare(spec_for(name, **shape))
        assert caught.value.pointer == pointer


def test_the_hash_sees_types_shapes_and_values() -> None:
    a = np.arange(6, dtype=np.float32)
    hashes = {
        hash_arrays([a]), hash_arrays([a.reshape(2, 3)]), hash_arrays([a.astype(np.float64)]), hash_arrays([a + 1]),
        hash_arrays([a[:3], a[3:]]),
    }  # fmt: skip
    assert len(hashes) == 5
    assert hash_arrays([a]) == hash_arrays([a.astype(">f4")])
