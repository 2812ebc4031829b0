"""Heavy tails and slips of the pen, of known distributions: what is genuine stays, what is none is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from optim_core.data import Arrays, columns_of, understand
from optim_core.data.tails import tamed, target_tails
from optim_core.spec.errors import DataError
from optim_core.spec.validation import parse_spec

Draw = Callable[[np.random.Generator, int], np.ndarray]
HEAVY: dict[str, Draw] = {
    **{f"lognormal {s}": lambda rng, n, s=s: np.exp(s * rng.normal(size=n)) for s in (1, 2, 3, 4)},
    **{f"Pareto {a}": lambda rng, n, a=a: rng.pareto(a, n) + 1 for a in (0.5, 0.75, 1, 2, 3)},
    **{f"t {d}": lambda rng, n, d=d: rng.standard_t(d, n) for d in (1.5, 2, 3)},
}
COMPACT: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(10, 3, n),
    "uniform": lambda rng, n: rng.uniform(1, 2, n),
    "counts": lambda rng, n: 1.0 + rng.poisson(3, n),
    "gamma": lambda rng, n: rng.gamma(4, 5, n),
    "lognormal": lambda rng, n: np.exp(0.4 * rng.normal(size=n)),
}
SIZES = (50, 100, 300, 1000, 5000)


@pytest.mark.parametrize("kind", HEAVY)
def test_a_heavy_tail_is_never_refused_nor_cut(kind: str) -> None:
    """1,200 tables in all."""
    for size in SIZES:
        for seed in range(20):
            values = HEAVY[kind](np.random.default_rng([seed, size]), size)
            target_tails(values, "y")
            assert not tamed(values[:, None], np.arange(size), [True]).moved.any()


@pytest.mark.parametrize("times", [1e6, 1e20, None])
@pytest.mark.parametrize("kind", COMPACT)
def test_a_slip_among_compact_values_is_refused_in_a_target_and_held_back_in_a_feature(
    kind: str, times: float | None
) -> None:
    for size in SIZES[1:]:
        for seed in range(5):
            rng = np.random.default_rng([seed, size])
            values = COMPACT[kind](rng, size)
            at = int(rng.choice(np.flatnonzero(values > np.median(values))))
            values[at] = 1e25 if times is None else values[at] * times
            held = tamed(values[:, None], np.arange(size), [True])
            assert held.moved.tolist() == [1]
            assert not held.logarithms.any()
            assert held.block.max() == np.delete(values, at).max()
            with pytest.raises(DataError, match="in one row"):
                target_tails(values, "y")


@pytest.mark.parametrize("kind", COMPACT)
def test_a_compact_feature_stays_as_it_is(kind: str) -> None:
    for size in (12, 30, *SIZES):
        for seed in range(20):
            block = COMPACT[kind](np.random.default_rng([seed, size]), size)[:, None]
            assert tamed(block, np.arange(size), [True]).block is block


def arrays(folder: Path, frame: pd.DataFrame) -> tuple[Arrays, str, list[str]]:
    frame.to_csv(folder / "t.csv", index=False)
    dataset = {"kind": "file", "path": str(folder / "t.csv"), "target": "y", "features": ["f"]}
    found = understand(parse_spec({"model": {"kind": "catalogue", "name": "linear"}, "dataset": dataset}))
    return found.arrays(), columns_of(found)[0].done, found.report


@pytest.mark.parametrize("sigma", [2, 2.5, 3, 4])
def test_a_line_finds_the_logarithm_of_a_heavy_tailed_feature(tmp_path: Path, sigma: float) -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=2000)
    found, done, report = arrays(
        tmp_path, pd.DataFrame({"f": np.exp(sigma * z + 8), "y": z + rng.normal(0, 0.2, 2000)})
    )
    line = LinearRegression().fit(found.x_train, found.y_train)
    assert line.score(found.x_test, found.y_test) == pytest.approx(1 / 1.04, abs=0.02)
    assert done == "its logarithm, since it is heavy-tailed, standardised"
    assert "'f' is taken as its logarithm, since it is heavy-tailed." in report
    assert not any("far_value" in sentence for sentence in report)


def test_zeros_signs_and_rows_beyond_the_training_rows_have_a_place_on_the_logarithm() -> None:
    rng = np.random.default_rng(5)
    train = np.arange(400)
    block = np.exp(3 * rng.normal(size=(600, 3)))
    block[::4, 1] = 0
    block[::2, 2] *= -1
    block[500] = np.nan
    block[501:504] = [[0, -1e9, -1e9], [-5, 0, 0], [1e9, 1e9, 1e9]]
    done = tamed(block, train, [True] * 3)
    assert done.logarithms.all()
    assert np.isnan(done.block[500]).all()
    known = np.delete(done.block, 500, axis=0)
    assert np.isfinite(known).all()
    assert np.abs(known - known.mean(0)).max() < 8 * known.std(0).max()
    # Larger values stay larger, but for what is below all that may be.
    for j, column in enumerate(block.T):
        there = column >= (np.nanmin(column[train]) if j < 2 else -np.inf)
        order = np.argsort(column[there])
        assert (np.diff(done.block[there, j][order]) >= 0).all()
    changed = block.copy()
    changed[550] = 1e12
    np.testing.assert_array_equal(tamed(changed, train, [True] * 3).block[train], done.block[train])


def test_one_far_value_does_not_make_a_tail() -> None:
    values = np.random.default_rng(1).normal(size=300)
    values[7] = 500
    block = values[:, None]
    assert tamed(block, np.arange(300), [True]).block is block
