"""How wide a table becomes is known without making it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim_core.data import columns_of, understand
from optim_core.data.limits import MAX_LEVELS
from optim_core.spec.validation import parse_spec


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["number", "flag", "date", "category"]),
            st.sampled_from([2, 3, MAX_LEVELS, MAX_LEVELS + 1, MAX_LEVELS + 2, 80]),
            st.sampled_from([0.0, 0.01, 0.3]),
        ),
        min_size=1, max_size=4,
    ),
    model=st.sampled_from(["mlp", "tabular"]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_the_shape_is_that_of_the_arrays(
    kinds: list[tuple[str, int, float]], model: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng, rows, table = np.random.default_rng(seed), 300, {}
    for i, (kind, levels, gaps) in enumerate(kinds):
        values = {
            "number": rng.normal(size=rows).round(3), "flag": rng.choice(["yes", "no"], rows),
            "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "category": np.array([f"level {n}" for n in rng.integers(0, levels, rows)]),
        }[kind]  # fmt: skip
        table[f"column{i}"] = pd.Series(values).astype(object).where(rng.random(rows) >= gaps, None)
    path = tmp_path_factory.mktemp("widths") / "t.csv"
    pd.DataFrame({**table, "y": rng.normal(size=rows)}).to_csv(path, index=False)
    found = understand(parse_spec({"model": model, "dataset": str(path), "target": "y"}))
    arrays = found.arrays()
    assert found.shape() == (arrays.feature_shape, arrays.cardinalities)
    infos = columns_of(found)
    assert [info.name for info in infos] == [f"column{i}" for i in range(len(kinds))]
    assert sum(info.features for info in infos) == arrays.feature_shape[0]
    for info in infos:
        if info.role != "left out":
            assert info.missing == pd.Series(table[info.name]).isna().sum()
