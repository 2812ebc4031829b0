"""Components of variance: what was put into a simulation comes out, and no arrangement of the input changes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

sys.path.insert(0, str(Path(__file__).parent))
from evidence_sources import crossed

from optim_core.recommend.variance import Spread, spread, time_blocks

ROWS = 203


def average(n: int, metric: str = "accuracy", **shape: float) -> tuple[dict[str, float], float]:
    """Mean components over n simulated tables, and the variance of the mean of their scores."""
    rng = np.random.default_rng(7)
    found, means = [], []
    for _ in range(n):
        rows = crossed(rng, rows=ROWS, **shape)  # type: ignore[arg-type]
        one = spread(rows, metric, train_rows=3 * ROWS)
        found.append((one.row, one.seed, one.fold, one.noise, one.total))
        means.append(sum(f.mean(axis=(0, 1)).sum() for f in rows) / ROWS)
    return dict(zip(("row", "seed", "fold", "noise", "total"), np.mean(found, axis=0), strict=True)), float(
        np.var(means)
    )


@pytest.mark.parametrize("wide", [1, 2])
def test_rows_and_noise_alone_are_found_exactly(wide: int) -> None:
    found, truth = average(300, folds=5, seeds=3, wide=wide, row=1.0, noise=0.8)
    assert found["noise"] == pytest.approx(0.64, rel=0.02)
    assert found["row"] == pytest.approx((1 + 0.64 / (3 * wide)) / ROWS, rel=0.03)
    assert truth == pytest.approx(found["row"], rel=0.2)


@pytest.mark.parametrize("wide", [1, 2])
def test_seeds_are_found_and_are_no_folds(wide: int) -> None:
    found, truth = average(600, folds=5, seeds=4, wide=wide, row=0.5, run=0.6, noise=0.5)
    assert found["seed"] == pytest.approx(0.36 / 20, rel=0.06)
    assert truth == pytest.approx(found["row"] + found["seed"], rel=0.2)
    assert found["fold"] < 0.5 * found["seed"]


@pytest.mark.parametrize("wide", [1, 2])
def test_folds_are_found(wide: int) -> None:
    found, truth = average(1500, folds=5, seeds=2, wide=wide, row=0.5, train=0.6)
    assert found["fold"] == pytest.approx(0.36 / 5, rel=0.06)
    assert found["seed"] < 1e-3 * found["fold"]
    assert truth == pytest.approx(found["total"], rel=0.15)


@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize("folds", [1, 5])
def test_all_together_is_not_too_small(folds: int, wide: int) -> None:
    wide = wide if folds > 1 else 1
    found, truth = average(600, folds=folds, seeds=3, wide=wide, row=1.0, run=0.1, train=0.0, noise=1.0)
    assert 0.95 * truth < found["total"] < 1.6 * truth


def test_the_parts_of_a_small_example_by_hand() -> None:
    """Two folds of two rows, two seeds, one score each."""
    rows = [np.array([[[1.0, 0.0], [1.0, 1.0]]]), np.array([[[0.0, 0.0], [0.0, 1.0]]])]
    found = spread(rows, "accuracy")
    # Rows (1, ½ | 0, ½), folds' means ¾ and ¼: e = ±¼, Σe² = ¼; N − K = 2, N = 4.
    assert found.row == pytest.approx(0.25 / 2 / 4)
    assert spread(rows, "mae").row == pytest.approx((0.25 + 0.0625) / 2 / 4)
    # Left in each fold after rows and seeds: ±¼, so MS_e = 2·4·(1/16) / 2 degrees of freedom.
    assert found.noise == pytest.approx(0.25)
    # Seeds' means ½, 1 and 0, ½: variance ⅛ = MS_e / 2, so nothing is left for seeds.
    assert found.seed == pytest.approx(0)
    # Folds' means ¾ and ¼: variance ⅛, over two folds 1/16; minus rows.
    assert found.fold == pytest.approx(1 / 16 - 0.25 / 8)
    assert found.row_df == 3  # kurtosis 1
    assert found.df == pytest.approx((1 / 16) ** 2 / ((1 / 32) ** 2 / 3 + (1 / 32) ** 2 / 1))


def test_one_split_needs_the_training_rows_and_grows_as_they_shrink() -> None:
    rows = crossed(np.random.default_rng(8), rows=60, folds=1, seeds=3, wide=1, row=1.0)
    with pytest.raises(ValueError, match="train_rows"):
        spread(rows, "accuracy")
    many, few = (spread(rows, "accuracy", train_rows=n) for n in (10**9, 60))
    assert few.row == pytest.approx(1.5 * many.row)
    assert many.fold == few.fold == 0


@pytest.mark.parametrize("folds", [1, 5])
@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize("seeds", [1, 2])
def test_scores_that_are_all_equal_have_no_variance(folds: int, wide: int, seeds: int) -> None:
    for level in (0.0, 0.1, -3e12):
        rows = [np.full((wide, seeds, 7), level)] * folds
        found = spread(rows, "mae", train_rows=21)
        assert found.total <= 1e-25 * level**2
        assert np.isfinite(found.df)
        assert found.half_width(0.01) <= 1e-10 * abs(level)


def test_one_row_that_differs_has_two_degrees_of_freedom() -> None:
    rows = [np.zeros((2, 2, 20)) for _ in range(5)]
    rows[1][..., 3] = 1
    found = spread(rows, "accuracy")
    assert found.row_df == pytest.approx(2, abs=0.3)
    assert found.seed == found.noise == 0


def test_one_seed_says_nothing_about_seeds() -> None:
    rows = crossed(np.random.default_rng(9), rows=60, folds=5, seeds=1, wide=2, row=1.0, noise=1.0)
    found = spread(rows, "accuracy")
    assert found.seed == found.noise == 0
    assert found.total > 0


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1e30, 1e140])
def test_the_unit_of_the_scores_only_scales_the_variance(scale: float) -> None:
    rows = crossed(np.random.default_rng(10), rows=61, folds=5, seeds=3, wide=2, row=1.0, run=0.3, noise=1.0)
    plain, scaled = spread(rows, "mae"), spread([scale * fold for fold in rows], "mae")
    assert scaled.half_width(0.05) == pytest.approx(scale * plain.half_width(0.05), rel=1e-9)
    assert scaled.df == pytest.approx(plain.df)


def test_rows_of_a_group_count_as_one() -> None:
    """Every row four times: variance and degrees of freedom of the quarter, once the groups are known."""
    quarter = crossed(np.random.default_rng(11), rows=50, folds=5, seeds=3, wide=2, row=1.0, run=0.2, noise=1.0)
    rows = [np.repeat(fold, 4, axis=-1) for fold in quarter]
    groups = [np.repeat(np.arange(fold.shape[-1]), 4)[::-1] for fold in quarter]
    expected, found = spread(quarter, "mae"), spread(rows, "mae", groups=groups)
    blind = spread(rows, "mae")
    assert found.row == pytest.approx(expected.row)
    assert found.seed == pytest.approx(expected.seed)
    assert found.fold == pytest.approx(expected.fold)
    assert found.row_df == pytest.approx(expected.row_df)
    assert blind.row < 0.5 * expected.row


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_blocks_of_time_cover_where_neighbours_are_alike(memory: float) -> None:
    rng, n, tables, hits, blind = np.random.default_rng(12), 400, 300, 0, 0
    for _ in range(tables):
        shocks = rng.standard_normal(n + 100)
        row = lfilter([1], [1, -memory], shocks)[100:]
        rows = [row + 0.5 * rng.standard_normal((1, 3, n))]
        with_blocks = spread(rows, "mae", train_rows=10**9, groups=[time_blocks(n)])
        hits += abs(rows[0].mean()) <= with_blocks.half_width(0.05)
        blind += abs(rows[0].mean()) <= spread(rows, "mae", train_rows=10**9).half_width(0.05)
    assert hits / tables >= 0.92
    if memory > 0.5:
        assert blind / tables < 0.6


def test_ten_blocks_of_neighbours() -> None:
    assert np.bincount(time_blocks(103)).tolist() == [11, 10, 10, 11, 10, 10, 11, 10, 10, 10]
    assert len(np.unique(time_blocks(7))) == 7


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    folds=st.sampled_from([1, 5]),
    wide=st.integers(1, 2),
    seeds=st.integers(1, 4),
    rows=st.integers(15, 60),
)
def test_parts_are_never_negative_and_order_means_nothing(
    seed: int, folds: int, wide: int, seeds: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = dict(rows=rows, folds=folds, seeds=seeds, wide=wide, row=1.0, run=0.3, train=0.2, noise=1.0)
    made = crossed(rng, **shape)  # type: ignore[arg-type]
    found = spread(made, "mae", train_rows=rows)
    other = rng.permutation(seeds)
    again = spread([fold[:, other][..., rng.permutation(fold.shape[-1])] for fold in made], "mae", train_rows=rows)
    for name in ("row", "seed", "fold", "noise", "df"):
        assert getattr(found, name) >= 0
        assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-9, abs=1e-15)
    assert found.df >= 1
    assert 2 <= found.row_df <= rows - 1


@given(
    parts=st.tuples(*[st.floats(0, 1e6)] * 3),
    row_df=st.floats(2, 1e5),
    seeds=st.integers(2, 10),
)
def test_degrees_of_freedom_lie_between_those_of_the_parts(
    parts: tuple[float, float, float], row_df: float, seeds: int
) -> None:
    found = Spread(*parts, row_df, 0.0, 100, 5, seeds, 2)
    assert 1 <= found.df <= (row_df + 5 * (seeds - 1) + 4) * (1 + 1e-9)
    if max(parts) > 0:
        assert found.df >= min(row_df, 5 * (seeds - 1), 10 / 3) * (1 - 1e-9)
