"""Our encoders against scikit-learn's, and the fast way to read numbers against the careful one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from optim_core.data.categories import Categories
from optim_core.data.levels import codes, one_hot
from optim_core.data.limits import MAX_LEVELS
from optim_core.data.notation import Missing, Notation, as_text, plain_numbers, read_numbers
from optim_core.data.numeric import encode_numbers
from optim_core.data.texts import Texts


def split(rows: int, rng: np.random.Generator) -> list[np.ndarray]:
    order = rng.permutation(rows)
    return [order[: rows // 2], order[rows // 2 : 3 * rows // 4], order[3 * rows // 4 :]]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_numbers_are_encoded_as_scikit_learn_does(seed: int, scale: bool) -> None:
    rng = np.random.default_rng(seed)
    block = rng.standard_normal((80, 7)) * 10.0 ** rng.integers(-8, 9, 7)
    block[rng.random((80, 7)) < 0.3 * (seed % 3)] = np.nan
    block[:, 2] = 5e9 + seed / 3
    block[:, 5] = 1e12 + rng.integers(0, 2, 80)
    splits = split(80, rng)
    if seed % 2:
        # Nothing known where it is learned; gaps only where nothing is learned.
        block[splits[0], 3] = np.nan
        block[splits[0], 4] = 1.0 + np.arange(40)
        block[splits[1], 4] = np.nan
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    oracle = make_pipeline(impute, StandardScaler()) if scale else make_pipeline(impute)
    oracle.fit(block[splits[0]])
    encoded, names = encode_numbers(block, splits, [f"c{i}" for i in range(7)], scale)
    assert names == [str(name) for name in impute.get_feature_names_out([f"c{i}" for i in range(7)])]
    for got, rows in zip(encoded, splits, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, oracle.transform(block[rows]), rtol=1e-6, atol=1e-6)


def levels(count: int, rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.random(count) ** 3
    return np.array([f"l{i:03}" for i in rng.choice(count, rows, p=weights / weights.sum())], dtype=object)


@pytest.mark.parametrize("count", [1, 2, MAX_LEVELS, MAX_LEVELS + 1, MAX_LEVELS + 2, 4 * MAX_LEVELS])
@pytest.mark.parametrize("seed", range(3))
def test_categories_are_encoded_as_scikit_learn_does(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    splits = split(1200, rng)
    texts = [[column[rows] for rows in splits] for column in (levels(count, 1200, seed), levels(5, 1200, seed + 9))]
    texts[1][1][0] = "never seen"
    tables = [np.stack([column[i] for column in texts], axis=1) for i in range(3)]

    oracle = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MAX_LEVELS + 1, sparse_output=False
    ).fit(tables[0])
    columns = [Categories.of(Texts.of(pd.Series(np.concatenate(column), dtype="str"))) for column in texts]
    where = list(np.split(np.arange(1200), np.cumsum([len(rows) for rows in splits])[:-1]))
    encoded, names = one_hot(columns, where, ["a", "b"])
    wanted = [str(name).replace("_infrequent_sklearn", "_(rare)") for name in oracle.get_feature_names_out(["a", "b"])]
    assert names == wanted
    for got, table in zip(encoded, tables, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, oracle.transform(table))

    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=MAX_LEVELS + 1).fit(
        tables[0]
    )
    rare = [0 if some is None else len(some) for some in ordinal.infrequent_categories_]
    kept = np.array([len(every) for every in ordinal.categories_]) - rare
    first = np.concatenate([[0], np.cumsum(kept + 1)[:-1]])
    numbered, cardinalities = codes(columns, where)
    assert cardinalities == tuple(int(count) + 1 for count in kept)
    for got, table in zip(numbered, tables, strict=True):
        known = np.asarray(ordinal.transform(table))
        np.testing.assert_array_equal(got, np.where(known < kept, known + 1, 0) + first)


MISSING = Missing.of(None)

TEXTS = st.sampled_from(
    ["1", "-2.5", "+3", ".5", "5.", "1e5", "1E-3", " 7 ", "007", "1,5", "inf", "-Infinity", "nan", "NaN", "", "NA", " na ", "-",
     "?", "x", "1_000", "0x10", "1e400", "1e-400", "\u0661", "None", "9007199254740993", "3 4", "--1", "true"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=12))
def test_the_fast_way_to_numbers_says_what_the_careful_one_says(texts: list[str]) -> None:
    raw = pd.Series(texts, dtype="str")
    fast = plain_numbers(pa.array(texts, type=pa.large_string()), MISSING)
    cleaned = as_text(raw, MISSING)
    careful = read_numbers("x", cleaned, Notation())
    if fast is not None and not cleaned.gaps.all():
        assert careful is not None
        assert not (~cleaned.gaps & np.isnan(careful.values)).any()
        np.testing.assert_array_equal(fast, careful.values)


def test_plain_numbers_take_the_fast_way() -> None:
    found = plain_numbers(pa.array(["1", "-2.5e3", "", "NA", "nan", "0"]), MISSING)
    assert found is not None
    np.testing.assert_array_equal(found, [1, -2500, np.nan, np.nan, np.nan, 0])
    assert plain_numbers(pa.array(["1", "two"]), MISSING) is None
    assert plain_numbers(pa.array(["007", "12"]), MISSING) is None, "a code"
    assert plain_numbers(pa.array(["1.234", "5.000", "12"]), MISSING) is None, "thousands in some countries"
    assert plain_numbers(pa.array(["1.234", "5.01"]), MISSING) is not None
