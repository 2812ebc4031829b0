"""Splits: disjoint, complete, reproducible, every class in each; and the hash of what came out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import prepare
from optim_core.data.prepare import hash_arrays
from optim_core.data.split import split_rows
from optim_core.spec.errors import DataError
from optim_core.spec.problem import BUILTIN_TASKS, BuiltinDataset, CatalogueModel, StudySpec, Training


def spec_for(name: str = "iris", seed: int = 0, training: Training | None = None, **shape: object) -> StudySpec:
    dataset = BuiltinDataset(name=name, **shape)  # type: ignore[arg-type]
    return StudySpec(
        model=CatalogueModel(name="mlp"), dataset=dataset, seed=seed, training=training or Training(batch_size=1)
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**31 - 1),
    validation=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.49),
)
def test_stratified_splits_partition_the_rows(sizes: list[int], seed: int, validation: float, test: float) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    training = Training(batch_size=1, validation_fraction=validation, test_fraction=test)
    rows = split_rows(spec_for(seed=seed, training=training), y, [str(i) for i in range(len(sizes))])
    parts = (rows.train, rows.validation, rows.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert all(set(y[part]) == set(range(len(sizes))) for part in parts)
    again = split_rows(spec_for(seed=seed, training=training), y, [str(i) for i in range(len(sizes))])
    assert all(np.array_equal(a, b) for a, b in zip(parts, (again.train, again.validation, again.test), strict=True))


def test_another_seed_splits_otherwise() -> None:
    y = np.zeros(100)
    assert not np.array_equal(split_rows(spec_for(seed=0), y, None).test, split_rows(spec_for(seed=1), y, None).test)


def test_fractions_are_kept() -> None:
    training = Training(batch_size=1, validation_fraction=0.1, test_fraction=0.3)
    rows = split_rows(spec_for(training=training), np.zeros(1000), None)
    assert rows.counts == {"train": 600, "validation": 100, "test": 300}


def test_splits_that_would_be_too_small() -> None:
    with pytest.raises(DataError, match="validation split would have 1 row"):
        split_rows(spec_for(training=Training(batch_size=1, validation_fraction=0.01)), np.zeros(12), None)
    with pytest.raises(DataError, match="class 'b' has 2 rows"):
        split_rows(spec_for(), np.array([0] * 20 + [1] * 2), ["a", "b"])


@pytest.mark.parametrize("name", BUILTIN_TASKS)
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
