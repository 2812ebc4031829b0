"""What columns of strangers' tables mean, each with its right value: classes, identifiers, leaks, wild values, cities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from optim_core.data import Arrays, columns_of, understand
from optim_core.data.prepare import Understood
from optim_core.data.tails import tamed, target_tails
from optim_core.data.target_codes import means
from optim_core.spec.errors import DataError
from optim_core.spec.validation import parse_spec
from service.cli.reading import Reading

N = 300
RNG = np.random.default_rng(11)
VALUES = RNG.normal(size=N)


def understood(folder: Path, table: dict[str, Any] | pd.DataFrame, model: str = "mlp", **rest: Any) -> Understood:
    frame = pd.DataFrame(table)
    path = folder / f"t.{'parquet' if rest.pop('parquet', False) else 'csv'}"
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    dataset = {"kind": "file", "path": str(path), "target": "y", **rest.pop("dataset", {})}
    return understand(parse_spec({"model": {"kind": "catalogue", "name": model}, "dataset": dataset, **rest}))


def said(found: Understood | Arrays, *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in found.report)


def used(found: Understood) -> list[str]:
    return [column.name for column in found.columns]


# Classes


@pytest.mark.parametrize("word", ["None", "NA", "-", "null"])
def test_a_word_as_frequent_as_the_classes_is_one_of_them(tmp_path: Path, word: str) -> None:
    labels = np.array([word, "Low", "High"])[np.arange(N) % 3]
    found = understood(tmp_path, {"y": labels, "a": VALUES})
    assert found.target.classes == sorted([word, "Low", "High"])
    assert len(found.target.values) == N
    assert said(found, repr(word), "stays a class", "na")


@pytest.mark.parametrize(
    ("counts", "classes"),
    [
        ({"None": 25, "-": 25, "NA": 25, "Scratch": 25}, ["-", "NA", "None", "Scratch"]),
        ({"None": 29, "mild": 30, "severe": 31}, ["None", "mild", "severe"]),
        ({"None": 27, "mild": 30, "severe": 31}, ["None", "mild", "severe"]),
        ({"None": 25, "-": 25, "Hole": 25, "Scratch": 25}, ["-", "Hole", "None", "Scratch"]),
        ({"NA": 94, "EU": 103, "AS": 103}, ["AS", "EU", "NA"]),
        ({"?": 30, "a": 30, "b": 40}, ["?", "a", "b"]),
        ({"None": 30, "mild": 60, "severe": 10}, ["None", "mild", "severe"]),
        ({"NA": 10, "a": 60, "b": 50}, ["a", "b"]),
        ({"NA": 12, "rare": 5, "usual": 83}, ["rare", "usual"]),
        ({"?": 10, "None": 45, "a": 50, "b": 45}, ["None", "a", "b"]),
    ],
)
def test_a_word_is_a_class_where_its_share_is_that_of_one(
    tmp_path: Path, counts: dict[str, int], classes: list[str]
) -> None:
    labels = np.repeat(list(counts), list(counts.values()))
    values = RNG.normal(size=len(labels))
    found = understood(tmp_path, {"y": labels, "a": values})
    assert found.target.classes == classes
    gone = {word: n for word, n in counts.items() if word not in classes}
    if not gone:
        assert not said(found, "rows_left_out")
        return
    ((word, n),) = gone.items()
    assert said(found, "Warning rows_left_out", f"Left out {n} rows", f"'{word}' {n} times", "--na ")
    # As it is typed.
    (sentence,) = (one for one in found.report if "rows_left_out" in one)
    typed = Reading(na=sentence.split('--na "')[1].split('"')[0]).fields()
    kept = understood(tmp_path, {"y": labels, "a": values}, dataset=typed)
    assert word in (kept.target.classes or [])
    assert kept.target.keep.all()


def test_a_rare_word_for_a_gap_stays_a_gap_and_is_named(tmp_path: Path) -> None:
    labels = np.array(["Low", "High"], dtype=object)[np.arange(N) % 2]
    labels[:7] = "NA"
    labels[7:9] = ""
    found = understood(tmp_path, {"y": labels, "a": VALUES})
    assert found.target.classes == ["High", "Low"]
    assert said(found, "Warning rows_left_out", "Left out 9 rows", "'NA' 7 times", "--na ")
    assert not said(understood(tmp_path, {"y": labels, "a": VALUES}, dataset={"na": ["NA"]}), "--na")


def test_where_one_class_is_left_the_words_that_were_none_are_named(tmp_path: Path) -> None:
    labels = np.array(["Scratch", "NA"])[(np.arange(N) % 4 == 0).astype(int)]
    with pytest.raises(DataError, match=r"single class, 'Scratch'. Left out 75 rows.*'NA' 75 times; --na "):
        understood(tmp_path, {"y": labels, "a": VALUES})


def test_two_words_of_a_feature_are_never_one_gap_in_silence(tmp_path: Path) -> None:
    garage = np.array(["NA", "None", "Attached", "Det"])[np.arange(N) % 4]
    found = understood(tmp_path, {"y": VALUES, "garage": garage}).arrays()
    assert {"garage_NA", "garage_None"} <= set(found.feature_names)
    garage = np.array(["Attached", "Det"], dtype=object)[np.arange(N) % 2]
    garage[:9], garage[9:20] = "NA", "None"
    found = understood(tmp_path, {"y": VALUES, "garage": garage})
    assert said(found, "'garage'", "'None' 11 times, 'NA' 9 times", "alike as missing", "--na ")
    garage[:20] = "NA"
    assert not said(understood(tmp_path, {"y": VALUES, "garage": garage}), "alike as missing")


def test_a_word_of_a_category_column_is_a_level_beside_its_gaps(tmp_path: Path) -> None:
    fence = np.array(["None", "wood", "wire"], dtype=object)[np.arange(N) % 3]
    fence[:6] = ""
    found = understood(tmp_path, {"y": VALUES, "fence": fence}).arrays()
    assert found.feature_names == ["fence_(missing)", "fence_None", "fence_wire", "fence_wood"]


# Identifiers


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("CustomerNumber", RNG.permutation(900_000)[:N] + 100_000),
        ("order_no", 5000 + np.cumsum(RNG.integers(1, 9, N))),
        ("row", np.arange(N)),
        ("x", RNG.permutation(N) * 10 + 70),
        ("Id", RNG.permutation(10_000)[:N]),
        ("ref", [f"{v:x}" for v in RNG.permutation(10**6)[:N]]),
    ],
)
def test_what_only_names_the_rows_is_left_out_aloud(tmp_path: Path, name: str, values: Any) -> None:
    found = understood(tmp_path, {"y": VALUES, "a": RNG.normal(size=N), name: values})
    assert used(found) == ["a"]
    assert said(found, f"Left out '{name}'", "name it under features to keep it")
    kept = understood(tmp_path, {"y": VALUES, "a": VALUES, name: values}, dataset={"features": ["a", name]})
    assert used(kept) == ["a", name]


def test_a_row_number_of_rows_sorted_by_class_is_no_feature(tmp_path: Path) -> None:
    found = understood(tmp_path, {"y": np.repeat(["a", "b", "c"], N // 3), "n": np.arange(N) + 1, "a": VALUES})
    assert used(found) == ["a"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price_index", 1000 + (VALUES * 1e4).astype(int)),
        ("id", VALUES * 3),
        ("key", np.arange(N) % 100),
        ("weight", RNG.permutation(900_000)[:N] + 100_000),
        ("year", 1700 + np.arange(N)),
        ("income", np.sort(RNG.permutation(10**6)[:N])),
    ],
)
def test_a_signal_is_never_taken_for_an_identifier(tmp_path: Path, name: str, values: Any) -> None:
    y = VALUES + 0.1 * RNG.normal(size=N)
    assert name in used(understood(tmp_path, {"y": y, name: values, "a": RNG.normal(size=N)}))


def test_a_column_of_decimals_is_never_an_identifier(tmp_path: Path) -> None:
    table = {"y": VALUES, "id": np.arange(N).astype(float)}
    assert used(understood(tmp_path, table)) == ["id"]
    assert used(understood(tmp_path, table, parquet=True)) == ["id"]


# Leaks


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (VALUES * 1.8 + 32, "in another unit"),
        (np.exp(VALUES), "rises and falls"),
        (-(VALUES**3), "rises and falls"),
        (np.round(VALUES, 3), "rises and falls"),
        (np.where(np.arange(N) % 9 == 0, np.nan, VALUES), "in another unit"),
    ],
)
def test_the_target_in_another_form_is_warned_of_and_stays(tmp_path: Path, values: np.ndarray, words: str) -> None:
    found = understood(tmp_path, {"y": VALUES, "copy": values, "near": VALUES + 0.1 * RNG.normal(size=N)})
    assert said(found, "possible_leakage", "'copy'", words)
    assert not said(found, "possible_leakage", "'near'")
    assert "copy" in used(found)


def test_maps_of_classes_are_warned_of(tmp_path: Path) -> None:
    labels = np.array(["a", "b", "c"])[RNG.integers(0, 3, N)]
    place = np.searchsorted(["a", "b", "c"], labels)
    table = {
        "y": labels,
        "words": np.array(["one", "two", "three"])[place],
        "finer": [f"{p}{i % 2}" for i, p in enumerate(place)],
        "ranges": place + RNG.random(N) * 0.9,
        "near": place + RNG.random(N) * 1.1,
        "other": np.array(["u", "v"])[np.arange(N) % 2],
    }
    found = understood(tmp_path, table)
    for name, leaks in (("words", True), ("finer", True), ("ranges", True), ("near", False), ("other", False)):
        assert said(found, "possible_leakage", f"'{name}'") is leaks, name


PRICE = (100 * np.exp(VALUES)).round(2)


@pytest.mark.parametrize(
    ("values", "leaks"),
    [
        (PRICE.round(), True),
        ((PRICE // 20 * 20).astype(int), True),
        (-(PRICE // 50), True),
        (np.where(PRICE > 100, "dear", "cheap"), True),
        (np.array(["c", "a", "b"])[np.digitize(PRICE, [50, 150])], True),
        (((PRICE + 9 * RNG.normal(size=N)) // 20 * 20).astype(int), False),
        ((np.sort(PRICE)[-2] < PRICE).astype(int), False),
    ],
)
def test_coarser_forms_of_the_target_are_warned_of(tmp_path: Path, values: np.ndarray, leaks: bool) -> None:
    found = understood(tmp_path, {"y": PRICE, "copy": values, "a": RNG.normal(size=N)})
    assert said(found, "possible_leakage", "'copy'") is leaks


NET, TAX, TIP = (RNG.integers(1, 10**6, N) / 100 for _ in range(3))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (NET + TAX, "'net' + 'tax'"),
        (NET - TIP, "'net' − 'tip'"),
        (TIP - NET - TAX, "'tip' − 'net' − 'tax'"),
        (NET + TAX + TIP, "'net' + 'tax' + 'tip'"),
        (np.where(np.arange(N) == 7, 0.0, NET + TAX), None),
        (NET + TAX + RNG.normal(size=N), None),
    ],
)
def test_a_target_that_is_a_sum_of_columns_is_warned_of(tmp_path: Path, target: np.ndarray, words: str | None) -> None:
    gaps = np.where(np.arange(N) % 5 == 0, np.nan, TAX)
    for tax in (TAX, gaps):
        table = {"y": target.round(2), "net": NET, "tax": tax, "tip": TIP, "a": VALUES, "b": np.arange(N) % 7}
        found = understood(tmp_path, table)
        assert said(found, "possible_leakage", "to the last digit") is (words is not None)
        assert words is None or said(found, f"the target is {words} to the last digit")


CHURN = np.array(["y", "n"])[(RNG.random(N) < 0.6).astype(int)]
LEFT = CHURN == "y"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(LEFT, "2020-01-05", ""), "is filled only where the target is 'y'"),
        (
            np.where(LEFT & (np.arange(N) % 3 > 0), pd.date_range("2020", periods=N).astype(str), ""),
            "is filled only where",
        ),
        (np.where(LEFT, VALUES.astype(str), ""), "is filled only where"),
        (np.where(LEFT, "", np.array(["u", "v"])[np.arange(N) % 2]), "is filled only where the target is 'n'"),
        (np.where(LEFT & (np.arange(N) % 2 > 0), "", VALUES.astype(str)), "is empty only where the target is 'y'"),
        (np.where(RNG.random(N) < 0.5, "", VALUES.astype(str)), ""),
    ],
)
def test_gaps_that_tell_the_target_are_warned_of(tmp_path: Path, values: np.ndarray, words: str) -> None:
    found = understood(tmp_path, {"y": CHURN, "c": values, "a": VALUES})
    assert said(found, "possible_leakage", "'c'", words) is bool(words)
    (column,) = [one for one in columns_of(found) if one.name == "c"]
    assert column.missing == (values == "").sum()
    assert "constant" not in column.done


def test_gaps_that_tell_a_number_are_warned_of(tmp_path: Path) -> None:
    found = understood(
        tmp_path, {"y": PRICE, "c": np.where(PRICE > 100, RNG.normal(size=N).astype(str), ""), "a": RNG.normal(size=N)}
    )
    assert said(found, "possible_leakage", "'c'", "is there or not as the target is high or low")


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_copies_of_rows_do_not_give_the_target_away(tmp_path: Path, target: str) -> None:
    rng = np.random.default_rng(7)
    individuals = pd.DataFrame({
        "a": rng.normal(size=60), "c": [f"city {i % 40}" for i in range(60)],
        "y": rng.choice(["u", "v"], 60) if target == "classes" else rng.normal(size=60),
    })  # fmt: skip
    rows = individuals.iloc[rng.permutation(np.repeat(np.arange(60), 8))].reset_index(drop=True)
    assert not said(understood(tmp_path, rows), "possible_leakage")
    # One that does is found among the copies, too.
    sure = rows.assign(code=np.where(rows.y == "u", 1, 2) if target == "classes" else 3 * rows.y)
    assert said(understood(tmp_path, sure), "possible_leakage", "'code'")
    # Another measurement of the same individuals.
    again = rows.assign(b=rows.a**2, t=rng.normal(size=480)).drop(columns="c")
    found = understood(tmp_path, again)
    assert not said(found, "possible_leakage")
    if target == "classes":
        assert said(found, "Warning repeated_measures: rows that agree in 'a'", "--split group:a")


# Values far from all others


def test_one_wild_value_among_tens_leaves_the_others_apart(tmp_path: Path) -> None:
    tens = 10 + 3 * VALUES
    tens[17] = 1e25
    found = understood(tmp_path, {"y": VALUES + RNG.normal(size=N), "a": tens, "b": VALUES})
    for fold in range(5):
        arrays = found.arrays(fold)
        x = np.concatenate([arrays.x_train, arrays.x_val, arrays.x_test])[:, 0]
        assert 0.8 < x.std() < 1.3
        assert np.abs(x).max() < 5
        assert said(arrays, "Warning far_value: 'a' is 1e+25 in 1 row", "it counts as", "the farthest of the others")
    (column,) = [one for one in columns_of(found) if one.name == "a"]
    assert column.done == "standardised; 1 wild value moved to the farthest of the others"


def test_what_is_wild_is_learned_from_training_rows_and_heavy_tails_are_none() -> None:
    train = np.arange(200)
    block = np.column_stack([np.full(N, 5.0), np.exp(1.5 * RNG.normal(size=N)), VALUES])
    block[250, 2], block[3, 0] = 1e9, np.nan
    held = tamed(block, train, [False] * 3)
    assert held.moved.tolist() == [0, 0, 1]
    assert held.block[250, 2] == VALUES[:200].max()
    block[250, 2] = held.block[250, 2]
    np.testing.assert_array_equal(held.block, block)


def test_a_target_that_one_value_drowns_is_refused_and_a_heavy_tail_is_said(tmp_path: Path) -> None:
    y = 10 + VALUES
    y[4] = 1e25
    with pytest.raises(DataError, match=r"1e\+25 in one row, where the others lie around 1") as caught:
        understood(tmp_path, {"y": y, "a": VALUES})
    assert (caught.value.code, caught.value.pointer) == ("target_wild", "/dataset/target")
    heavy = understood(tmp_path, {"y": np.exp(3 * VALUES), "a": RNG.normal(size=N)})
    assert said(heavy, "heavy_tail", "logarithm", "mae")
    assert not said(understood(tmp_path, {"y": 10 + VALUES, "a": RNG.normal(size=N)}), "heavy_tail")


@pytest.mark.parametrize(("rows", "heavy"), [(12, True), (30, True), (99, True), (300, True)])
def test_one_row_that_decides_the_error_is_said_in_small_tables_too(tmp_path: Path, rows: int, heavy: bool) -> None:
    y = RNG.normal(20, 5, rows)
    assert not said(understood(tmp_path, {"y": y, "a": RNG.normal(size=rows)}), "heavy_tail")
    y[7] = 900 if rows == 300 else 300
    assert said(understood(tmp_path, {"y": y, "a": RNG.normal(size=rows)}), "heavy_tail", f"of {rows} rows") is heavy


def test_bell_curves_of_a_dozen_rows_have_no_heavy_tail() -> None:
    draws = [np.random.default_rng(seed).normal(20, 5, (10, 12, 20, 40, 80)[seed % 5]) for seed in range(300)]
    assert sum(bool(target_tails(y, "y")) for y in draws) <= 5


# Texts


def test_a_text_is_hashed_where_it_is_listed(tmp_path: Path) -> None:
    words = np.array(["good", "bad", "ship", "late", "broken", "price", "return", "never", "again"])
    texts = [" ".join(RNG.choice(words, 8)) for _ in range(N)]
    y = [text.count("bad") + 0.01 * v for text, v in zip(texts, VALUES, strict=True)]
    left = understood(tmp_path, {"y": y, "review": texts, "a": VALUES})
    assert used(left) == ["a"]
    assert said(left, "Left out 'review'", "free text", "name it under features to keep it")
    arrays = understood(tmp_path, {"y": y, "review": texts}, dataset={"features": ["review"]}).arrays()
    assert arrays.x_train.shape[1] == 256
    assert said(arrays, "words of 'review' were hashed into 256 numbers")
    assert LinearRegression().fit(arrays.x_train[:, :], arrays.y_train).score(arrays.x_train, arrays.y_train) > 0.9


# Many categories


def cities(rows: int, count: int, effect: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    city = rng.integers(0, count, rows)
    y = effect * rng.normal(size=count)[city] + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "city": [f"c{c:03}" for c in city]})


@pytest.mark.parametrize("model", ["mlp", "tabular"])
def test_hundreds_of_cities_are_told_apart(tmp_path: Path, model: str) -> None:
    arrays = understood(tmp_path, cities(4000, 300, 2.0, 0), model=model).arrays()
    assert "city_target" in arrays.feature_names
    column = arrays.feature_names.index("city_target")
    explained = [np.corrcoef(x[:, column], y)[0, 1] ** 2 for x, y in
                 ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test))]  # fmt: skip
    # Truth: 4 of 5 parts of the variance; each city's mean is known from eight training rows.
    assert all(0.7 < share < 0.82 for share in explained)


@pytest.mark.parametrize("kind", ["numbers", "two", "several"])
def test_cities_that_mean_nothing_gain_nothing(tmp_path: Path, kind: str) -> None:
    """Known truth: the target is noise. Ten tables of 300 levels, where means that saw their own row would explain a tenth."""
    fits, gains = [], []
    for seed in range(10):
        table = cities(1500, 300, 0.0, seed)
        if kind != "numbers":
            table["y"] = np.array(["u", "v", "w"])[(table["y"].rank() * (2 if kind == "two" else 3) / 1501).astype(int)]
        arrays = understood(tmp_path, table).arrays()
        own = [i for i, name in enumerate(arrays.feature_names) if "_target" in name]
        assert len(own) == {"numbers": 1, "two": 1, "several": 3}[kind]
        train, test = arrays.x_train[:, own], arrays.x_test[:, own]
        model = LinearRegression() if kind == "numbers" else LogisticRegression()
        model.fit(train, arrays.y_train)
        chance = {"numbers": 0.0, "two": 0.5, "several": 1 / 3}[kind]
        fits.append(model.score(train, arrays.y_train) - chance)
        gains.append(model.score(test, arrays.y_test) - chance)
    assert np.mean(fits) < 0.04
    assert abs(np.mean(gains)) < 0.02


def test_copies_do_not_tell_each_other_the_target() -> None:
    """Each row five times with a target of noise: a mean over the copies of a row would be the target itself."""
    rng = np.random.default_rng(3)
    y, city = np.repeat(rng.normal(size=200), 5), np.repeat(np.arange(200, dtype=np.int32), 5)
    parts = [city, city[:10], city[:10]]
    for groups, low, high in ((None, 0.9, 1.0), (np.repeat(np.arange(200), 5), -0.3, 0.3)):
        (train, *_), names = means([parts], ["city"], y, None, groups, 0)
        assert names == ["city_target"]
        spread = train[:, 0].std()
        found = np.corrcoef(train[:, 0], y)[0, 1] if spread > 0 else 0.0
        assert low <= found <= high
