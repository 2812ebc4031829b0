"""Targets at the border: nothing but words for a gap, a metric of classes on a quantity, classes of a row each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optim_core.spec.errors import DataError
from tests.unit.test_data_understanding import VALUES, N, said, understood

# Targets of nothing but words for a gap


@pytest.mark.parametrize("words", [["None", "NA", "-"], ["-", "?"], ["NULL", "none"]])
@pytest.mark.parametrize("parquet", [False, True])
def test_words_for_a_gap_are_the_classes_where_there_is_nothing_else(
    tmp_path: Path, words: list[str], parquet: bool
) -> None:
    labels = np.array(words)[np.arange(N) % len(words)]
    found = understood(tmp_path, {"y": labels, "a": VALUES}, parquet=parquet)
    assert found.target.classes == sorted(words)
    assert found.target.keep.all()
    assert all(said(found, repr(word), "stays a class") for word in words)


@pytest.mark.parametrize("counts", [{"NA": 300}, {"-": 290, "?": 10}, {"nan": 150, "<NA>": 150}])
def test_a_target_of_one_word_for_a_gap_is_refused_with_the_word(tmp_path: Path, counts: dict[str, int]) -> None:
    labels = np.repeat(list(counts), list(counts.values()))
    with pytest.raises(DataError, match=r"has no values but .*for gaps; --na") as caught:
        understood(tmp_path, {"y": labels, "a": VALUES})
    assert caught.value.code == "target_empty"
    assert all(f"{word!r} {n} times" in str(caught.value) for word, n in counts.items())
    found = understood(tmp_path, {"y": np.arange(N) % 2, "a": VALUES, "b": labels})
    assert said(found, "Left out 'b'", f"'{labels[0]}'", "--na")


# Metrics and quantities


@pytest.mark.parametrize("metric", ["auroc", "f1", "balanced_accuracy", "log_loss", "average_precision", "accuracy"])
def test_a_metric_of_classes_makes_no_classes_of_a_quantity(tmp_path: Path, metric: str) -> None:
    for values in (VALUES.round(2), (1e5 * VALUES).round(), (10 * VALUES).round() / 4):
        with pytest.raises(
            DataError, match=rf"{metric} is of classes, .* is a quantity .* rmse.*task: classif"
        ) as caught:
            understood(tmp_path, {"y": values, "a": VALUES}, metric=metric)
        assert (caught.value.code, caught.value.pointer) == ("metric_not_applicable", "/metric")
    for classes in (np.arange(N) % 3, np.arange(N) % 3 / 2, np.arange(N) % 60):
        assert understood(tmp_path, {"y": classes, "a": VALUES}, metric="f1").target.task == "classification"


@pytest.mark.parametrize("labels", [VALUES.round(2), [f"n{i % 200}" if i < 280 else "ab"[i % 2] for i in range(N)]])
def test_classes_are_not_what_is_left_of_a_tenth_of_the_rows(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(DataError, match=r"of 300 rows are of classes of 'y' with fewer than 3 rows") as caught:
        understood(tmp_path, {"y": labels, "a": VALUES}, task="classification")
    assert (caught.value.code, caught.value.pointer) == ("too_few_rows", "/dataset/target")
