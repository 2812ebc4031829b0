"""Splits as people declare them, rows that repeat, and tables too small for what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import understand
from optim_core.data.dealing import Units, deal, portions
from optim_core.data.prepare import Understood
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.problem import FOLDS, StudySpec
from optim_core.spec.validation import parse_spec

RNG = np.random.default_rng(5)
N = 300
VALUES = RNG.normal(size=N)


def understood(folder: Path, table: dict[str, Any] | pd.DataFrame, **rest: Any) -> Understood:
    pd.DataFrame(table).to_csv(folder / "t.csv", index=False)
    dataset = {"kind": "file", "path": str(folder / "t.csv"), "target": "y", **rest.pop("dataset", {})}
    return understand(parse_spec({"model": {"kind": "catalogue", "name": "mlp"}, "dataset": dataset, **rest}))


def said(found: Understood, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in found.report)


def parts_of(found: Understood) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(rows.train, rows.validation, rows.test) for rows in found.splits]


def assert_apart(labels: np.ndarray, parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """No label is in two parts."""
    assert sum(len(np.unique(labels[part])) for part in parts) == len(np.unique(labels))


def refused(**split: Any) -> tuple[str, str]:
    raw = {"kind": "file", "path": "t.csv", "target": "y"}
    with pytest.raises(SpecError) as caught:
        parse_spec({"model": {"kind": "catalogue", "name": "mlp"}, "dataset": raw, "split": split})
    return caught.value.pointer, str(caught.value)


def test_what_a_split_needs_and_what_it_has_no_use_for() -> None:
    assert refused(by="time") == ("/split/column", "split by time needs the name of a column")
    assert refused(by="files")[0] == "/split/test"
    assert refused(by="files", test="a.csv", column="b")[0] == "/split/column"
    assert refused(column="b") == ("/split/column", "split by random has no column")
    assert "did you mean 'column'" in refused(by="time", colum="a")[1]
    assert "'group'" in refused(by="grup", column="a")[1]
    for dataset in ({"kind": "builtin", "name": "iris"}, {"kind": "file", "path": "t.txt", "format": "text"}):
        name = "mlp" if dataset["kind"] == "builtin" else "transformer"
        raw = {"model": {"kind": "catalogue", "name": name}, "dataset": dataset, "split": {"by": "time", "column": "a"}}
        with pytest.raises(SpecError, match="for a table in a file") as caught:
            parse_spec(raw)
        assert caught.value.pointer == "/split/by"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("group:patient_id", {"by": "group", "column": "patient_id"}),
        ("time: a:b", {"by": "time", "column": "a:b"}),
        ("column:part", {"by": "column", "column": "part"}),
        ("files:test.csv", {"by": "files", "test": "test.csv"}),
        ("random", {"by": "random"}),
    ],
)
def test_a_split_has_a_short_form(short: str, long: dict[str, str]) -> None:
    raw = {"model": "mlp", "dataset": {"path": "t.csv", "target": "y"}}
    assert parse_spec({**raw, "split": short}) == parse_spec({**raw, "split": long})


@pytest.mark.parametrize(
    ("split", "pointer", "words"),
    [
        ("grup:a", "/split", "did you mean 'group'"),
        ("time", "/split", "needs the name of a column"),
        ({"by": "time", "column": "a", "folds": 5}, "/split/folds", "a split by time, column or files has one"),
        ({"n_splits": 5}, "/split/n_splits", "take turns in five folds by themselves"),
        ({"test_size": 0.3}, "/split/test_size", "training.test_fraction"),
    ],
)
def test_what_is_wrong_with_a_split_is_said_with_what_to_do(split: Any, pointer: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        parse_spec({"model": "mlp", "dataset": {"path": "t.csv", "target": "y"}, "split": split})
    assert caught.value.pointer == pointer


# Groups


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=5, max_size=40), st.integers(1, 4), st.integers(0, 99))
def test_groups_are_dealt_whole_and_evenly(sizes: list[int], classes: int, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    kinds = np.random.default_rng(seed).integers(0, classes, len(sizes))
    units = Units.make(groups, kinds[groups])
    assert np.array_equal(units.kinds, kinds)
    fold_of = deal(units, FOLDS, np.random.default_rng(seed))
    assert all(len(np.unique(fold_of[groups == group])) == 1 for group in range(len(sizes)))
    for kind in range(classes):
        loads = np.bincount(fold_of[kinds[groups] == kind], minlength=FOLDS)
        own = units.sizes[kinds == kind]
        # The greatest load is above the least by no more than the largest unit.
        assert np.ptp(loads) <= own.max(initial=0)
    part_of = portions(units, (0.2, 0.2), np.random.default_rng(seed))
    assert all(len(np.unique(part_of[groups == group])) == 1 for group in range(len(sizes)))


def test_a_group_lies_in_one_fold_and_its_column_is_no_feature(tmp_path: Path) -> None:
    patients = RNG.integers(0, 40, N)
    found = understood(tmp_path, {"y": VALUES, "a": VALUES, "p": patients}, split={"by": "group", "column": "p"})
    assert len(found.splits) == FOLDS
    for parts in parts_of(found):
        assert_apart(patients, parts)
    assert [column.name for column in found.columns] == ["a"]
    assert np.array_equal(pd.factorize(found.together)[0], pd.factorize(patients)[0])
    assert said(found, "Split", "by 'p', whose values stay together", "five folds")
    assert said(found, "'p' splits the rows and is no feature")
    both = understood(
        tmp_path,
        {"y": VALUES, "a": VALUES, "p": patients},
        split={"by": "group", "column": "p"},
        dataset={"features": ["p"]},
    )
    assert [column.name for column in both.columns] == ["p"]


def test_few_groups_make_fewer_folds_and_too_few_are_refused(tmp_path: Path) -> None:
    for groups, folds in ((4, 4), (3, 3)):
        table = {"y": VALUES, "a": VALUES, "p": np.arange(N) % groups}
        found = understood(tmp_path, table, split={"by": "group", "column": "p"})
        assert len(found.splits) == folds
    with pytest.raises(DataError, match="2 groups; training, validation and test need one each"):
        understood(tmp_path, {"y": VALUES, "a": VALUES, "p": np.arange(N) % 2}, split={"by": "group", "column": "p"})
    with pytest.raises(DataError, match="no column 'q'; did you mean") as caught:
        understood(tmp_path, {"y": VALUES, "a": VALUES, "pq": VALUES}, split={"by": "group", "column": "q"})
    assert caught.value.pointer == "/split/column"
    with pytest.raises(DataError, match="is the target"):
        understood(tmp_path, {"y": VALUES, "a": VALUES}, split={"by": "group", "column": "y"})


def test_groups_with_other_fractions_are_one_split(tmp_path: Path) -> None:
    patients = np.arange(N) % 30
    found = understood(
        tmp_path, {"y": VALUES, "a": VALUES, "p": patients}, split={"by": "group", "column": "p"},
        training={"test_fraction": 0.3, "validation_fraction": 0.1},
    )  # fmt: skip
    ((train, validation, test),) = parts_of(found)
    assert (len(train), len(validation), len(test)) == (180, 30, 90)
    assert not set(patients[train]) & set(patients[test])


# Time


def test_by_time_the_past_trains_and_the_future_tests(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=N, freq="D")
    order = RNG.permutation(N)
    found = understood(
        tmp_path,
        {"y": VALUES, "a": VALUES, "day": days[order].strftime("%Y-%m-%d")},
        split={"by": "time", "column": "day"},
    )
    ((train, validation, test),) = parts_of(found)
    assert order[train].max() < order[validation].min()
    assert order[validation].max() < order[test].min()
    assert (len(train), len(validation), len(test)) == (180, 60, 60)
    assert found.together is not None
    pieces = found.together[test][np.argsort(order[test])]
    assert np.array_equal(pieces, np.repeat(np.arange(10), 6))
    assert said(found, "by 'day', earlier rows first")
    assert not said(found, "confirmation lets")


def test_rows_of_one_moment_are_not_parted_and_gaps_are_left_out(tmp_path: Path) -> None:
    years = np.repeat(np.arange(2000, 2010), 30)
    text = [str(year) for year in years]
    text[7] = ""
    found = understood(tmp_path, {"y": VALUES, "a": VALUES, "year": text}, split={"by": "time", "column": "year"})
    assert said(found, "Left out 1 row without a value of 'year'")
    kept = np.delete(years, 7)
    assert [sorted(set(kept[part])) for part in parts_of(found)[0]] == [
        list(range(2000, 2006)), [2006, 2007], [2008, 2009],
    ]  # fmt: skip
    table = {"y": VALUES, "a": VALUES, "s": ["before", "after"] * (N // 2)}
    with pytest.raises(DataError, match="neither dates nor numbers"):
        understood(tmp_path, table, split={"by": "time", "column": "s"})
    with pytest.raises(DataError, match="2 moments of 's' cannot be cut in three"):
        understood(tmp_path, {**table, "s": [1, 2] * (N // 2)}, split={"by": "time", "column": "s"})


@pytest.mark.parametrize("turn", [1, -1])
def test_rows_in_the_order_of_dates_are_never_shuffled_in_silence(tmp_path: Path, turn: int) -> None:
    days = pd.date_range("2020-01-01", periods=N, freq="D").strftime("%Y-%m-%d")[::turn]
    found = understood(tmp_path, {"y": VALUES, "a": VALUES, "day": days})
    assert said(found, "ordered_in_time", "'day'", "--split time:day", "split: {by: time, column: day}")
    years = understood(tmp_path, {"y": VALUES, "a": VALUES, "year": (1900 + np.arange(N) // 9)[::turn]})
    assert said(years, "ordered_in_time", "'year'")
    shuffled = understood(tmp_path, {"y": VALUES, "a": VALUES, "day": days[RNG.permutation(N)]})
    assert not said(shuffled, "ordered_in_time")


# Columns and files


def test_a_column_says_the_part(tmp_path: Path) -> None:
    part = np.array(["Train", "val", "TEST"], dtype=object)[np.arange(N) % 3]
    found = understood(tmp_path, {"y": VALUES, "a": VALUES, "part": part}, split={"by": "column", "column": "part"})
    ((train, validation, test),) = parts_of(found)
    assert [set(np.arange(N)[rows] % 3) for rows in (train, validation, test)] == [{0}, {1}, {2}]
    assert [column.name for column in found.columns] == ["a"]
    two = np.where(part == "val", "train", part)
    found = understood(tmp_path, {"y": VALUES, "a": VALUES, "part": two}, split={"by": "column", "column": "part"})
    ((train, validation, test),) = parts_of(found)
    assert (len(train), len(validation), len(test)) == (160, 40, 100)
    for bad, words in ((np.where(part == "val", "maybe", part), "'maybe' in data row 2"), (["train"] * N, "says test")):
        with pytest.raises(DataError, match=words) as caught:
            understood(tmp_path, {"y": VALUES, "a": VALUES, "part": bad}, split={"by": "column", "column": "part"})
        assert caught.value.code == "split_unknown"


def test_files_of_their_own(tmp_path: Path) -> None:
    for name, first, rows in (("v", 1000, 40), ("s", 2000, 50)):
        a = first + np.arange(rows)
        # Columns in another order.
        pd.DataFrame({"a": a + 0.5, "y": RNG.normal(size=rows)}).to_csv(tmp_path / f"{name}.csv", index=False)
    table = {"y": VALUES, "a": np.arange(N) + 0.5}
    split = {"by": "files", "validation": str(tmp_path / "v.csv"), "test": str(tmp_path / "s.csv")}
    found = understood(tmp_path, table, split=split)
    values = found.columns[0].numbers
    assert values is not None
    ((train, validation, test),) = parts_of(found)
    assert values[train].max() == N - 0.5
    assert (values[validation].min(), values[validation].max()) == (1000.5, 1039.5)
    assert (values[test].min(), values[test].max()) == (2000.5, 2049.5)
    assert said(found, "300 rows", "t.csv")
    assert said(found, "50 rows", "s.csv")
    found = understood(tmp_path, table, split={"by": "files", "test": str(tmp_path / "s.csv")})
    assert [len(part) for part in parts_of(found)[0]] == [240, 60, 50]
    assert found.arrays().x_test.shape == (50, 1)
    for bad, code in (({"y": VALUES, "b": VALUES}, "feature_missing"), ({"a": VALUES}, "target_missing")):
        pd.DataFrame(bad).to_csv(tmp_path / "s.csv", index=False)
        with pytest.raises(DataError, match="test file: ") as caught:
            understood(tmp_path, table, split={"by": "files", "test": str(tmp_path / "s.csv")})
        assert (caught.value.pointer, caught.value.code) == ("/split/test", code)


# Rows that repeat


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one = pd.DataFrame({"y": rng.integers(0, 2, 60), "a": rng.normal(size=60), "b": rng.normal(size=60)})
    which = rng.permutation(np.repeat(np.arange(60), 8))
    found = understood(tmp_path, one.iloc[which])
    assert said(found, "420 rows repeat the features")
    for parts in parts_of(found):
        assert_apart(which, parts)
    assert found.together is not None
    assert len(np.unique(found.together)) == 60
    fresh = understood(tmp_path, one)
    assert fresh.together is None


def test_individuals_that_only_agree_in_few_coarse_columns_are_no_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sex, grade = rng.integers(0, 2, 2000), rng.integers(0, 40, 2000)
    y = (rng.random(2000) < 0.3 + 0.4 * sex).astype(int)
    found = understood(tmp_path, {"y": y, "sex": np.array(["f", "m"])[sex], "grade": [f"g{g}" for g in grade]})
    assert found.together is None
    assert said(found, "have the features of another one", "no copies")


def test_a_few_copies_among_many_coarse_columns_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({f"x{i}": rng.integers(0, 30, 2000) for i in range(6)}).assign(y=rng.integers(0, 2, 2000))
    assert understood(tmp_path, table).together is None
    some = table.iloc[:90].assign(y=1 - table["y"].iloc[:90])
    found = understood(tmp_path, pd.concat([table, some]))
    assert found.together is not None
    assert said(found, "90 rows repeat the features")


def test_rows_of_which_little_is_known_are_no_copies(tmp_path: Path) -> None:
    gone = np.arange(N) % 4 == 0
    found = understood(tmp_path, {"y": VALUES, "a": np.where(gone, np.nan, VALUES), "k": ["u", "v"] * (N // 2)})
    assert found.together is None


FIVE = np.repeat(np.arange(5), 12)


@pytest.mark.parametrize(
    ("table", "copies"),
    [
        ({"y": VALUES[FIVE], "a": VALUES[FIVE + 50], "b": VALUES[FIVE + 90]}, True),
        ({"y": np.array([12, 55, 30, 71, 93])[FIVE], "a": np.array([10, 17, 44, 81, 99])[FIVE]}, True),
        ({"y": np.array(list("uvuvu"))[FIVE], "a": VALUES[FIVE], "b": VALUES[FIVE + 9]}, True),
        ({"y": VALUES, "a": RNG.normal(size=N).round(1)}, False),
        ({"y": VALUES, "a": RNG.normal(size=N).round(2)}, False),
        ({"y": np.arange(N) % 2, "a": RNG.normal(size=N).round(1)}, False),
        ({"y": VALUES, "a": np.where(np.arange(N) % 13, RNG.normal(size=N), -1)}, False),
        ({"y": np.arange(N) % 2, "a": np.where(np.arange(N) % 13, RNG.normal(size=N), -1)}, False),
        ({"y": VALUES[:120], "a": np.repeat([1, 2, 5, 10, 50, 100], 20)}, False),
    ],
)
def test_what_is_said_of_rows_that_agree_is_true(tmp_path: Path, table: dict[str, Any], copies: bool) -> None:
    found = understood(tmp_path, table)
    assert (found.together is not None) is copies
    assert said(found, "repeat the features") is copies
    assert said(found, "but not always its target: they are no copies") is not copies
    if copies:
        for parts in parts_of(found):
            assert_apart(FIVE, parts)


def test_two_rows_copied_cannot_be_kept_apart_and_that_is_said(tmp_path: Path) -> None:
    found = understood(tmp_path, {"y": np.repeat([1.5, 3.7], 30), "a": np.repeat([0.123, 0.777], 30)})
    assert said(found, "Warning repeated_rows: 58 rows", "2 different rows")


def test_copies_over_declared_parts_are_named(tmp_path: Path) -> None:
    a = VALUES.copy()
    a[N - 20 :] = a[:20]
    part = ["train"] * 200 + ["validation"] * 50 + ["test"] * 50
    found = understood(tmp_path, {"y": VALUES, "a": a, "part": part}, split={"by": "column", "column": "part"})
    assert said(found, "possible_leakage", "20 test rows repeat")


# Small tables


def test_batches_of_small_tables_shrink_and_that_is_said(tmp_path: Path) -> None:
    table = {"y": VALUES[:30], "a": VALUES[:30]}
    found = understood(tmp_path, table)
    assert found.batch_size == 18
    assert said(found, "Batches have 18 rows rather than 32: all training rows.")
    tiny = understood(tmp_path, {"y": VALUES[:12], "a": VALUES[:12]})
    assert said(tiny, "Batches have 6 rows rather than 32: one of the folds trains on no more, the search on 8.")
    assert understood(tmp_path, table, training={"batch_size": 10}).batch_size == 10
    assert not said(understood(tmp_path, table, training={"batch_size": 10}), "Batches")
    # 20 training rows in the search, 19 in the fold that leaves out the two larger ones.
    assert understood(tmp_path, {"y": VALUES[:33], "a": VALUES[:33]}).batch_size == 19


def test_a_class_of_one_row_goes_and_the_study_stays(tmp_path: Path) -> None:
    labels = np.array(["a", "b"] * (N // 2), dtype=object)
    labels[:3] = ["odd", "few", "few"]
    found = understood(tmp_path, {"y": labels, "a": VALUES})
    assert found.target.classes == ["a", "b"]
    assert sum(len(part) for part in parts_of(found)[0]) == N - 3
    assert said(found, "Left out 3 rows of the 2 classes 'few', 'odd'")
    columns = found.columns[0].numbers
    assert columns is not None
    np.testing.assert_allclose(columns[:, 0], VALUES[3:])
    with pytest.raises(DataError, match="of which 1 have 3 rows or more"):
        understood(tmp_path, {"y": ["a"] * (N - 2) + ["b"] * 2, "a": VALUES})


def test_a_split_of_the_spec_survives_its_own_json() -> None:
    raw = {
        "model": {"kind": "catalogue", "name": "mlp"}, "dataset": {"kind": "file", "path": "t.csv", "target": "y"},
        "split": {"by": "group", "column": "p"},
    }  # fmt: skip
    spec = parse_spec(raw)
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.in_folds
    assert not parse_spec({**raw, "split": {"by": "time", "column": "p"}}).in_folds
