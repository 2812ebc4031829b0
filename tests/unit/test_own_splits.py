"""One data set, two or three: which samples train, which are looked at and which are left for the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from optim_core.data.split import split_rows
from optim_core.engine.loop import make_runner
from optim_core.own.data import samples_of
from optim_core.own.samples import Samples
from optim_core.own.source import OwnSource
from optim_core.own.splits import parts_of, split_samples
from optim_core.spec.errors import DataError
from tests.unit.own_cases import CPU, F32, Augmented, Counting, blobs, line, study
from tests.unit.test_engine_own import BATCHED, trials, unit

X, Y = blobs(100)


def _numbered(rows: int, seed: int = 0) -> Samples:
    """Samples that are their own numbers."""
    return samples_of(torch.arange(rows), seed, CPU, F32)


def _rows(samples: Samples) -> list[int]:
    return samples.whole().tolist()  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(st.integers(50, 400), st.integers(0, 1000), st.integers(2, 8), st.booleans())
def test_five_folds_are_those_of_tables(rows: int, seed: int, classes: int, known: bool) -> None:
    codes = np.random.default_rng(seed).integers(0, classes, rows) * 3
    spec = study(seed)
    tests = []
    for fold in range(5):
        found = split_samples([_numbered(rows)], spec, lambda _: torch.from_numpy(codes) if known else None, fold)
        parts = [_rows(part) for part in (found.train, found.validation, found.test)]
        assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(rows))
        tests += parts[2]
        names, y = np.unique(codes, return_inverse=True)
        stratified = known and np.bincount(y).min() >= 3
        expected = split_rows(
            spec, y if stratified else np.arange(rows), [str(n) for n in names] if stratified else None
        )
        assert parts == [
            part.tolist() for part in (expected[fold].train, expected[fold].validation, expected[fold].test)
        ]
        assert found.folds == 5
    assert sorted(tests) == list(range(rows))


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 300), st.integers(0, 1000), st.floats(0.05, 0.4), st.booleans())
def test_of_two_data_sets_the_test_samples_are_cut_from_the_first(
    rows: int, seed: int, share: float, known: bool
) -> None:
    codes = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, rows))
    spec, validation = study(seed, test_fraction=share, batch_size=2), _numbered(20)
    found = split_samples([_numbered(rows), validation], spec, lambda _: codes if known else None, None)
    train, test = _rows(found.train), _rows(found.test)
    assert sorted(train + test) == list(range(rows))
    assert found.validation is validation
    assert found.folds == 1
    if known and torch.bincount(codes).min() >= 3:
        for code in range(3):
            size = int((codes == code).sum())
            assert sum(int(codes[row]) == code for row in test) == max(1, round(size * share))
    else:
        assert len(test) == max(1, round(rows * share))
    again = split_samples([_numbered(rows), validation], spec, lambda _: codes if known else None, None)
    assert _rows(again.test) == test


def test_three_are_as_given_and_fractions_of_their_own_make_one_split() -> None:
    given_ = [_numbered(30), _numbered(10), _numbered(12)]
    found = split_samples(given_, study(), lambda _: None, None)
    assert [found.train, found.validation, found.test] == given_
    assert found.report == ["Splits as given: 30 for training, 10 for validation and 12 for the final test."]
    one = split_samples([_numbered(100)], study(test_fraction=0.1), lambda _: None, None)
    assert (len(one.train), len(one.validation), len(one.test), one.folds) == (70, 20, 10, 1)
    with pytest.raises(ValueError, match="no folds"):
        split_samples(given_, study(), lambda _: None, 0)


_DATA = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ((X, Y), 1), (X, 1), ({"x": X, "y": Y}, 1), (_DATA, 1), ((_DATA,), 1), ((_DATA, _DATA), 2), ([_DATA, _DATA, _DATA], 3),
        (((X, Y), (X, Y)), 2), (((X, Y), (X, Y), (X, Y)), 3), (((X, X), Y), 1), ({"train": _DATA, "val": _DATA}, 2),
        ({"train": (X, Y), "validation": (X, Y), "test": (X, Y)}, 3), ([(torch.zeros(2), 1)] * 30, 1),
        ([{"x": X, "y": Y}, {"x": X, "y": Y}], 2),
    ],
)  # fmt: skip
def test_what_is_one_data_set_and_what_are_several(data: Any, count: int) -> None:
    assert len(parts_of(data)) == count


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X, Y, X[:30], Y[:30]), r"give \(\(X, y\), \(X_val, y_val\)\)"),
        ((_DATA, _DATA, _DATA, _DATA), "one data set, "),
        ((_DATA, 3), "one data set, "),
        ({"train": _DATA, "val": _DATA, "dev": _DATA}, "same split twice"),
        ({"val": _DATA, "test": _DATA}, "called train"),
    ],
)
def test_what_is_neither_is_refused(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parts_of(data)


def test_named_train_and_test_alone_have_their_validation_cut_from_the_first() -> None:
    task = OwnSource(study(), line, {"train": (X, Y), "test": (X[:20], Y[:20])}).problem()
    assert task.rows == {"train": 80, "validation": 20, "test": 20}
    assert task.data_report[0].startswith("The validation samples are cut from the training ones: 80 for")


def test_what_was_found_is_said() -> None:
    task = OwnSource(study(), line, (X, Y)).problem(2)
    assert task.data_report[0] == (
        "100 samples in five folds, with each class's share in each: the search trains on 60, looks at 20 and leaves 20; "
        "the confirmation lets each fold be the test samples in turn."
    )
    shares = [
        np.bincount(task.call.targets(part.whole())) / len(part) for part in (task.splits.train, task.splits.test)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.06)
    for data, said in ((Augmented(X, Y), True), ((Augmented(X, Y), Counting(X, Y)), True), (Counting(X, Y), False)):
        report = OwnSource(study(), line, data).problem().data_report
        assert any("differ from reading to reading" in sentence for sentence in report) == said
    three = (Augmented(X, Y), Counting(X, Y), Counting(X, Y))
    assert "differ" not in str(OwnSource(study(), line, three).problem().data_report)


@pytest.mark.parametrize(("training", "batch"), [({"batch_size": 64}, 7), ({}, 7)])
def test_few_samples_make_small_batches_aloud(training: dict[str, Any], batch: int) -> None:
    task = OwnSource(study(**training), line, (X[:13], Y[:13])).problem()
    assert task.batch_size == batch
    assert any(f"Batches have {batch} samples rather than" in said for said in task.data_report)
    runner = make_runner(task, unit(trials(task, ["adamw"], [1]), BATCHED), BATCHED)
    assert runner.advance(0, 3).isfinite().all()


@pytest.mark.parametrize(
    ("data", "training", "code"),
    [
        (((X, Y), (X[:1], Y[:1])), {}, "split_too_small"),
    ],
)
def test_too_little_is_refused(data: Any, training: dict[str, Any], code: str) -> None:
    with pytest.raises(DataError) as caught:
        OwnSource(study(**training), line, data).problem()
    assert caught.value.code == code
