"""Tables as people have them: what each kind of column becomes, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from optim_core.data import Arrays, inspect, prepare
from optim_core.data.split import split_rows
from optim_core.spec.problem import CatalogueModel, FileDataset, StudySpec

N = 600
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=N)


def prepared(folder: Path, columns: dict[str, Any], **rest: Any) -> Arrays:
    columns = {"y": [f"{v:.4f}" for v in RNG.normal(size=N)], **columns}
    pd.DataFrame(columns).to_csv(folder / "t.csv", index=False)
    dataset = FileDataset(path=str(folder / "t.csv"), target="y", features=rest.pop("features", None))
    return prepare(StudySpec(model=CatalogueModel(name="mlp"), dataset=dataset, **rest))


def said(arrays: Arrays, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in arrays.report)


def test_numbers_are_scaled_as_scikit_learn_does_on_training_rows_only(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, {"a": VALUES, "b": VALUES**2 * 100})
    spec = StudySpec(model=CatalogueModel(name="mlp"), dataset=FileDataset(path="t.csv", target="y"))
    rows = split_rows(spec, np.zeros(N), None)[0]
    raw = np.column_stack([VALUES, VALUES**2 * 100])
    scaler = StandardScaler().fit(raw[rows.train])
    np.testing.assert_allclose(arrays.x_train, scaler.transform(raw[rows.train]), atol=1e-6)
    np.testing.assert_allclose(arrays.x_val, scaler.transform(raw[rows.validation]), atol=1e-6)
    np.testing.assert_allclose(arrays.x_test, scaler.transform(raw[rows.test]), atol=1e-6)


def test_regression_targets_come_back_through_their_scale(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, {"a": VALUES})
    mean, deviation = arrays.y_scale
    table = pd.read_csv(tmp_path / "t.csv")
    back = np.concatenate([arrays.y_train, arrays.y_val, arrays.y_test]) * deviation + mean
    np.testing.assert_allclose(np.sort(back), np.sort(table["y"]), atol=1e-5)
    assert abs(arrays.y_train.mean()) < 1e-6
    assert abs(arrays.y_train.std() - 1) < 1e-5


def test_gaps_become_the_training_median_and_a_flag(tmp_path: Path) -> None:
    values = [("?" if i % 5 == 0 else f"{v:.6f}") for i, v in enumerate(VALUES)]
    arrays = prepared(tmp_path, {"a": values})
    assert arrays.feature_names == ["a", "missingindicator_a"]
    assert len(np.unique(arrays.x_train[:, 1])) == 2
    missing = arrays.x_train[:, 1] > 0
    assert np.unique(arrays.x_train[missing, 0]).size == 1
    assert arrays.x_train[missing, 0][0] == pytest.approx(np.median(arrays.x_train[~missing, 0]), abs=1e-6)
    assert said(arrays, "Missing numbers", "'a'")


def test_categories_are_one_hot_and_unseen_ones_do_no_harm(tmp_path: Path) -> None:
    names = ["red", "green", "blue"] * (N // 3)
    names[0] = "ultraviolet"
    for seed in range(4):  # the single odd row falls into different splits
        arrays = prepared(tmp_path, {"a": names}, seed=seed)
        assert set(np.unique(arrays.x_test)) <= {0.0, 1.0}
        assert (arrays.x_train.sum(axis=1) == 1).all()
        assert arrays.x_val.shape[1] == arrays.x_train.shape[1]


def test_many_categories_share_one_and_texts_are_left_out(tmp_path: Path) -> None:
    codes = [f"c{i % 58}" for i in range(N)]
    notes = [f"note number {i}" for i in range(N)]
    arrays = prepared(tmp_path, {"code": codes, "note": notes})
    assert arrays.x_train.shape[1] == 52
    assert said(arrays, "'code'", "50 most common", "mean target")
    assert said(arrays, "Left out 'note'", "free text")


def test_flags_dates_and_identifiers(tmp_path: Path) -> None:
    days = pd.date_range("2023-03-01", periods=N, freq="9h")
    arrays = prepared(
        tmp_path,
        {
            "id": range(N), "flag": ["yes", "No"] * (N // 2), "gap": ["true", "", "FALSE"] * (N // 3),
            "day": days.strftime("%Y-%m-%d"), "at": days.strftime("%Y-%m-%d %H:%M"),
            "german": days.strftime("%d.%m.%Y"),
        },
    )  # fmt: skip
    assert "id" not in arrays.feature_names
    assert said(arrays, "Left out 'id'", "only numbers the rows", "name it under features")
    assert said(arrays, "'day'", "days since 1970")
    assert said(arrays, "'at'", "in the day")
    assert [name for name in arrays.feature_names if name.startswith("day.")] == [f"day.{i}" for i in range(5)]
    assert sum(name.startswith("at.") for name in arrays.feature_names) == 7
    assert sum(name.startswith("german.") for name in arrays.feature_names) == 5
    assert "missingindicator_gap" in arrays.feature_names
    kept = prepared(tmp_path, {"id": range(N), "a": VALUES}, features=["id"])
    assert kept.feature_names == ["id"]


def test_month_first_dates_are_told_from_day_first(tmp_path: Path) -> None:
    days = pd.date_range("2023-01-01", periods=N, freq="D")
    american = prepared(tmp_path, {"d": days.strftime("%m/%d/%Y")})
    assert said(american, "month first")
    british = prepared(tmp_path, {"d": days.strftime("%d/%m/%Y")})
    assert said(british, "day first")
    np.testing.assert_array_equal(american.x_train, british.x_train)


def test_wild_numbers_and_stray_words_count_as_missing(tmp_path: Path) -> None:
    wild = [f"{v:.5f}" for v in VALUES]
    wild[3], wild[4], wild[5] = "inf", "1e400", "-Infinity"
    stray = [f"{v:.5f}" for v in VALUES]
    stray[7] = "unknown"
    arrays = prepared(tmp_path, {"wild": wild, "stray": stray, "same": ["4"] * N, "none": [""] * N})
    assert np.isfinite(arrays.x_train).all()
    assert np.isfinite(arrays.x_test).all()
    assert said(arrays, "'wild'", "3 values")
    assert said(arrays, "'stray'", "1 value", "'unknown'")
    assert said(arrays, "Left out 'same'", "constant")
    assert said(arrays, "Left out 'none'", "no values")


def test_a_copy_of_the_target_is_called_a_leak(tmp_path: Path) -> None:
    labels = ["a", "b", "c"] * (N // 3)
    arrays = prepared(tmp_path, {"y": labels, "code": [ord(v) for v in labels], "a": VALUES})
    assert said(arrays, "possible_leakage", "'code'")
    assert not said(arrays, "possible_leakage", "'a'")
    numbers = prepared(tmp_path, {"y": VALUES, "twice": VALUES * 2 + 1, "a": VALUES**2})
    assert said(numbers, "possible_leakage", "'twice'", "in another unit")
    assert not said(numbers, "possible_leakage", "'a'")


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    rows = [f"{v:.3f};{i % 7}".replace(".", ",") for i, v in enumerate(VALUES)]
    (tmp_path / "t.csv").write_text("y;x\n" + "\n".join(rows))
    spec = StudySpec(
        model=CatalogueModel(name="mlp"), dataset=FileDataset(path=str(tmp_path / "t.csv"), target="y")
    )  # fmt: skip
    arrays = prepare(spec)
    assert arrays.task == "regression"
    assert arrays.y_scale[0] == pytest.approx(VALUES.mean(), abs=0.2)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([i % 3 for i in range(N)], "classification"),
        ([i % 2 + 0.5 for i in range(N)], "classification"),
        ([i % 40 for i in range(N)], "regression"),
        ([v for v in VALUES], "regression"),
        (["True", "False"] * (N // 2), "classification"),
        ([f"{i % 4}" if i % 9 else "" for i in range(N)], "classification"),
    ],
)  # fmt: skip
def test_the_task_is_inferred(tmp_path: Path, values: list[Any], task: str) -> None:
    arrays = prepared(tmp_path, {"y": values, "a": VALUES})
    assert arrays.task == task
    assert arrays.y_train.dtype == (np.int64 if task == "classification" else np.float32)


def test_the_metric_or_the_task_can_decide(tmp_path: Path) -> None:
    grades = [i % 5 for i in range(N)]
    assert prepared(tmp_path, {"y": grades, "a": VALUES}, metric="mae").task == "regression"
    assert prepared(tmp_path, {"y": grades, "a": VALUES}, task="regression").metric == "rmse"


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = ["" if i < 10 else "ab"[i % 2] for i in range(N)]
    arrays = prepared(tmp_path, {"y": labels, "a": VALUES})
    assert len(arrays.x_train) + len(arrays.x_val) + len(arrays.x_test) == N - 10
    assert said(arrays, "Left out 10 rows")


def test_inspection_tells_what_preparation_does(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, {"a": VALUES, "b": ["u", "v"] * (N // 2)})
    spec = StudySpec(model=CatalogueModel(name="mlp"), dataset=FileDataset(path=str(tmp_path / "t.csv"), target="y"))
    found = inspect(spec.dataset, spec)
    assert found.rows == {"train": len(arrays.x_train), "validation": len(arrays.x_val), "test": len(arrays.x_test)}
    assert found.columns == {"a": "number", "b": "category"}
    assert arrays.report[: len(found.report)] == found.report
