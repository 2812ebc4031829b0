"""Intervals and probabilities of differences: they cover, they agree with each other, and they know what rows resolve."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from evidence_sources import auroc_values, crossed, flips, fold_sizes, zeros

from optim_core.recommend.further import Decider, all_would_decide, metric_degenerate, what_would_decide
from optim_core.recommend.interval import Difference, difference, score_interval
from optim_core.recommend.looks import LOOK_ALPHA, holm_divisors
from optim_core.recommend.variance import Spread
from optim_core.spec.problem import BOUNDS

Z = 2.5


def of(rival: list[np.ndarray], metric: str = "loss", alpha: float = 0.05, **more: object) -> Difference:
    """Against nothing: for losses the difference is then minus the rival's."""
    return difference(rival, zeros(rival), metric, alpha=alpha, train_rows=3 * sum(f.shape[-1] for f in rival), **more)  # type: ignore[arg-type]


# Coverage with known truth


@pytest.mark.parametrize(("folds", "wide", "seeds"), [(5, 2, 2), (5, 2, 4), (5, 1, 2), (1, 1, 5), (1, 1, 10)], ids=str)
@pytest.mark.parametrize("source", ["rows", "runs", "heavy"])
def test_intervals_cover_the_truth(folds: int, wide: int, seeds: int, source: str) -> None:
    """Normal, and squared-error-like scores with heavy tails; 95 % within sampling error."""
    rng, tables, hits = np.random.default_rng(20), 300, 0
    parts = {"rows": (1.0, 0.03, 0.6), "runs": (0.3, 0.2, 1.0), "heavy": (0.0, 0.0, 0.5)}[source]
    for _ in range(tables):
        made = crossed(rng, rows=150, folds=folds, seeds=seeds, wide=wide, row=parts[0], run=parts[1], noise=parts[2])
        if source == "heavy":
            made = [fold + rng.standard_t(3, fold.shape[-1]) for fold in made]
        found = of(made)
        hits += found.low <= 0 <= found.mean + found.half
    assert hits / tables >= 0.95 - Z * math.sqrt(0.95 * 0.05 / tables)


@pytest.mark.parametrize("right", [0.8, 0.97, 0.995])
@pytest.mark.parametrize(("folds", "wide", "seeds"), [(5, 2, 2), (1, 1, 5)], ids=str)
def test_two_equal_classifiers_are_told_apart_in_at_most_five_percent(
    folds: int, wide: int, seeds: int, right: float
) -> None:
    rng, tables, claims, covered = np.random.default_rng(21), 400, 0, 0
    for _ in range(tables):
        a, b = (flips(rng, 100, folds, wide, seeds, right) for _ in range(2))
        found = difference(a, b, "accuracy", alpha=0.05, train_rows=300)
        claims += found.low > 0
        covered += found.low <= 0 <= found.high
    assert claims / tables <= 0.025 + Z * math.sqrt(0.025 * 0.975 / tables)
    assert covered / tables >= 0.95 - Z * math.sqrt(0.95 * 0.05 / tables)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.03])
def test_few_rows_that_differ_do_not_make_a_narrow_interval(rate: float) -> None:
    """A rival that answers a share of rows rightly that the other always gets wrong; most tables hold hardly any of them."""
    rng, rows, hits, tables = np.random.default_rng(22), 120, 0, 400
    for _ in range(tables):
        base = [np.ones((2, 2, n)) for n in fold_sizes(rows)]
        rival = [fold - (rng.random(fold.shape[-1]) < rate) for fold in base]
        found = difference(rival, base, "accuracy", alpha=0.05)
        hits += found.low <= -rate <= found.high
    assert hits / tables >= 0.93


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98])
def test_the_interval_of_a_single_score_covers_it(truth: float) -> None:
    rng, tables, hits = np.random.default_rng(23), 400, 0
    for _ in range(tables):
        hard = [rng.random(n) < 2 * (1 - truth) for n in fold_sizes(200)]
        made = [1 - h * (rng.random((2, 2, len(h))) < 0.5) for h in hard]
        found = score_interval(made, "accuracy")
        hits += found.low <= truth <= found.high
    assert hits / tables >= 0.95 - Z * math.sqrt(0.95 * 0.05 / tables)


# One distribution


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mean=st.floats(-1, 1),
    folds=st.sampled_from([1, 5]),
    seeds=st.integers(1, 4),
    alpha=st.floats(0.001, 0.2),
)
def test_the_probability_passes_975_just_where_the_interval_leaves_zero(
    seed: int, mean: float, folds: int, seeds: int, alpha: float
) -> None:
    made = crossed(
        np.random.default_rng(seed), rows=40, folds=folds, seeds=seeds, wide=1, row=1.0, run=0.2, noise=0.5, mean=mean
    )
    found = of(made, alpha=alpha)
    assume(abs(found.mean - found.half) > 1e-9)
    assert (found.probability >= 0.975) == (found.mean - found.half > 0) == (found.low > 0)
    assert (found.p_value < alpha) == (abs(found.mean) > found.half)
    assert found.low <= found.mean <= found.high
    assert (found.mean > 0) == (found.probability > 0.5)
    wider = of(made, alpha=alpha / 2)
    assert wider.half > found.half
    assert wider.low <= found.low <= found.high <= wider.high


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    right=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    other=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    metric=st.sampled_from(["accuracy", "f1"]),
    folds=st.sampled_from([1, 5]),
    seeds=st.integers(1, 3),
    rows=st.integers(11, 40),
)
def test_differences_of_bounded_scores_stay_within_what_is_possible(
    seed: int, right: float, other: float, metric: str, folds: int, seeds: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = [np.arange(n) % 2 for n in fold_sizes(rows, folds)]
    a, b = (flips(rng, rows, folds, 1, seeds, share) for share in (right, other))
    if metric == "f1":
        a, b = ([np.where(v == 1, y, 1 - y) for v, y in zip(each, targets, strict=True)] for each in (a, b))
    found = difference(a, b, metric, alpha=0.01, targets=targets, train_rows=rows)
    slack = 1e-12
    base = score_interval(b, metric, alpha=0.01, targets=targets, train_rows=rows)
    assert -base.high - slack <= found.low <= found.mean <= found.high <= 1 - base.low + slack
    assert found.half > 0
    assert 0 <= found.probability <= 1
    for each in (a, b):
        one = score_interval(each, metric, targets=targets, train_rows=rows)
        assert -slack <= one.low <= one.value <= one.high <= 1 + slack
        assert one.low < one.high


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(["accuracy", "f1", "auroc", "r2", "rmse"]))
def test_order_means_nothing_and_exchanging_the_two_turns_the_sign(seed: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    targets = [rng.permutation(np.arange(n) % 2) for n in fold_sizes(47)]
    made = []
    for _ in range(2):
        scores = [rng.standard_normal((2, 2, len(y), 2)) + (y[:, None] == np.arange(2)) for y in targets]
        stored = {
            "accuracy": lambda y, s: s.argmax(-1) == y,
            "f1": lambda y, s: s.argmax(-1),
            "auroc": auroc_values,
            "r2": lambda y, s: (s[..., 0] - y) ** 2,
            "rmse": lambda y, s: s[..., 0] ** 2,
        }[metric]
        made.append([np.asarray(stored(y, s), dtype=np.float64) for y, s in zip(targets, scores, strict=True)])
    found = difference(made[0], made[1], metric, alpha=0.05, targets=targets)
    turned = difference(made[1], made[0], metric, alpha=0.05, targets=targets)
    order = [rng.permutation(len(y)) for y in targets]
    moved = [[v[:, ::-1][..., o] for v, o in zip(each, order, strict=True)] for each in made]
    again = difference(
        moved[0], moved[1], metric, alpha=0.05, targets=[y[o] for y, o in zip(targets, order, strict=True)]
    )
    assert turned.mean == pytest.approx(-found.mean)
    assert turned.half == pytest.approx(found.half)
    assert turned.probability == pytest.approx(1 - found.probability)
    for name in ("mean", "low", "high", "probability", "unlike"):
        assert getattr(again, name) == pytest.approx(getattr(found, name), abs=1e-12)


# Corners


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auroc", "rmse", "r2", "mae", "loss"])
@pytest.mark.parametrize("folds", [1, 5])
def test_identical_configurations_differ_by_nothing_plus_or_minus_what_rows_resolve(metric: str, folds: int) -> None:
    rng = np.random.default_rng(24)
    targets = [np.arange(n) % 2 for n in fold_sizes(100, folds)]
    made = flips(rng, 100, folds, 1, 2, 0.7)
    found = difference(made, [f.copy() for f in made], metric, alpha=0.05, targets=targets, train_rows=100)
    assert found.identical
    assert found.mean == 0
    assert found.probability == 0.5
    assert found.p_value == 1
    if BOUNDS[metric] == (0.0, 1.0):
        assert found.half == pytest.approx(found.floor)
        assert found.half >= 0.0299
        assert found.low < 0 < found.high
    else:
        assert found.low == found.high == 0


def test_the_floor_is_the_rule_of_three_and_ends_where_ten_rows_differ() -> None:
    base = [np.ones((1, 2, 20)) for _ in range(5)]
    for changed in (1, 9, 10):
        rival = [fold.copy() for fold in base]
        for place in range(changed):
            rival[place % 5][0, 0, place // 5] = 0
        found = difference(rival, base, "accuracy", alpha=0.05)
        assert found.unlike == changed
        assert found.floor == pytest.approx(-math.log(0.05) / 100 if changed < 10 else 0)
        assert found.half >= found.floor


def test_one_configuration_always_right_and_one_always_wrong() -> None:
    good, bad = [np.ones((2, 2, 10))] * 5, [np.zeros((2, 2, 10))] * 5
    found = difference(good, bad, "accuracy", alpha=0.05)
    assert found.mean == 1
    assert found.high == 1
    assert found.low == pytest.approx(1 + math.log(0.05) / 50)
    assert found.probability > 0.999
    one = score_interval(good, "accuracy")
    assert (one.value, one.high) == (1, 1)
    assert one.low == pytest.approx(1 + math.log(0.05) / 50)


def test_a_loss_that_is_lower_by_the_same_on_every_row_is_certainly_lower() -> None:
    base = [np.full((1, 2, 8), 0.5)] * 5
    found = difference([fold - 0.25 for fold in base], base, "loss", alpha=0.05)
    assert found.probability == 1
    assert found.p_value == 0
    assert found.low == found.high == 0.25


def test_claims_need_two_seeds_on_folds_and_three_on_one_split() -> None:
    rng = np.random.default_rng(25)
    for folds, seeds, expected in ((5, 1, False), (5, 2, True), (1, 1, False), (1, 2, False), (1, 3, True)):
        made = crossed(rng, rows=60, folds=folds, seeds=seeds, wide=1, row=0.1, noise=0.1, mean=-1.0)
        found = of(made)
        assert found.claimable == expected
        assert found.low > 0
        assert found.excludes_zero == expected


def test_huge_errors_stay_finite() -> None:
    rng = np.random.default_rng(26)
    a, b = ([10.0**30 * rng.random((2, 2, 9)) for _ in range(5)] for _ in range(2))
    for metric in ("loss", "rmse", "r2"):
        found = difference(a, b, metric, alpha=0.05, targets=[rng.random(9) for _ in range(5)])
        assert all(math.isfinite(x) for x in (found.low, found.mean, found.high, found.probability, found.p_value))
        assert found.low <= found.mean <= found.high


# Rivals, looks, what would decide


def test_looks_share_five_percent() -> None:
    assert sum(LOOK_ALPHA) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("p_values", "divisors"),
    [
        ([0.2], [1]),
        ([0.001, 0.5, 0.001], [3, 1, 2]),
        ([0.02, 0.021, 0.9], [3, 3, 3]),
        ([0.9, 0.016, 0.024], [1, 3, 2]),
        ([], []),
    ],
)
def test_holms_steps(p_values: list[float], divisors: list[int]) -> None:
    assert holm_divisors(p_values, 0.05) == divisors


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=6), alpha=st.floats(0.001, 0.2))
def test_holm_rejects_what_holm_rejects(p_values: list[float], alpha: float) -> None:
    divisors = holm_divisors(p_values, alpha)
    ordered = sorted(p_values)
    failed = next((i for i, p in enumerate(ordered) if not p < alpha / (len(ordered) - i)), len(ordered))
    rejected = sum(p < alpha / d for p, d in zip(p_values, divisors, strict=True))
    assert rejected == failed


def with_spread(mean: float, spread: Spread, alpha: float = 0.05) -> Difference:
    found = of([np.zeros((2, 2, 10))] * 5, alpha=alpha)
    half = spread.half_width(alpha)
    return replace(found, mean=mean, low=mean - half, high=mean + half, half=half, spread=spread)


def test_more_seeds_decide_where_seeds_are_the_noise_and_rows_where_rows_are() -> None:
    # 1,000 rows, two seeds: noise alone makes √(4/(1000·2·2)) = .032, and seeds .02.
    noisy = Spread(4 / 4000, 4e-4, 0.0, 999.0, 4.0, 1000, 5, 2, 2)
    for mean, target in ((-0.02, 0.03), (0.03, 0.03), (-0.04, 0.05)):
        told = what_would_decide(with_spread(mean, noisy), margin=0.01)
        assert told.rows is None
        assert told.seeds is not None
        widths = [
            replace(noisy, row=4 / 2000 / s, seed=8e-4 / s, seeds=s).half_width(0.05)
            for s in (told.seeds - 1, told.seeds)
        ]
        assert widths[1] < target <= widths[0]
    coarse = Spread(1e-3, 0.0, 0.0, 999.0, 0.0, 1000, 5, 2, 2)
    needed = what_would_decide(with_spread(-0.02, coarse), margin=0.01)
    assert needed.seeds is None
    assert needed.rows == 4300  # 1000 · (1.962 · √.001 / .03)² = 4280


def test_a_gain_below_the_margin_is_decided_by_showing_that_it_is_below() -> None:
    """Half of the margin cannot be called better, however many seeds; that its interval ends below the margin can."""
    exact = Spread(1e-8, 0.0, 0.0, 999.0, 0.0, 1000, 5, 2, 2)
    assert what_would_decide(with_spread(0.009, exact), margin=0.01).seeds == 2
    assert what_would_decide(with_spread(0.01, exact), margin=0.01).seeds is None
    assert what_would_decide(with_spread(0.01, exact), margin=0.01).rows is None


def test_one_rival_ahead_is_enough_to_decide_and_else_all_have_to_be_shown_not_to_be() -> None:
    coarse = Spread(1e-3, 0.0, 0.0, 999.0, 0.0, 1000, 5, 2, 2)
    far, near, behind, close = (with_spread(mean, coarse) for mean in (0.05, 0.03, -0.02, 0.0099))
    needs = {d.mean: what_would_decide(d, 0.01).rows for d in (far, near, behind, close)}
    # The one furthest ahead, whatever it would take to settle one that lies at the margin.
    assert all_would_decide([near, far, behind, close], 0.01, 1000) == Decider(None, needs[0.05])
    assert all_would_decide([behind, with_spread(-0.05, coarse)], 0.01, 1000) == Decider(None, needs[-0.02])
    # More than ten times the rows is no advice, but for a table of a few rows.
    assert (needs[0.0099] or 0) > 10_000
    assert all_would_decide([behind, close], 0.01, 1000) == Decider(None, None)
    few = with_spread(-0.02, replace(coarse, row=0.01, rows=100))
    assert (all_would_decide([few], 0.01, 100).rows or 0) > 1000
    # Rows that were kept as means of blocks are counted as rows.
    assert all_would_decide([behind], 0.01, 20_000).rows == 20 * (needs[-0.02] or 0)


def test_fewer_rows_than_the_margin_needs_are_said() -> None:
    made = [np.ones((2, 2, 20))] * 5
    found = difference(made, made, "accuracy", alpha=0.05)
    needed = what_would_decide(found, margin=0.002)
    assert needed.seeds is None
    assert needed.rows == 1500  # −ln(.05)/.002 = 1498


def test_f1_of_too_few_rows_or_of_silent_runs_is_refused() -> None:
    rare, enough = [np.r_[np.ones(5), np.zeros(45)]] * 5, [np.r_[np.ones(6), np.zeros(44)]] * 5
    good = [np.broadcast_to(y, (1, 2, 50)).astype(np.float64) for y in enough]
    silent = [f.copy() for f in good]
    silent[0][0, 0] = 0
    assert metric_degenerate([good], "f1", rare)
    assert not metric_degenerate([good], "f1", enough)
    assert not metric_degenerate([silent], "f1", enough)
    silent[1][0, 1] = 0
    assert metric_degenerate([good, silent], "f1", enough)
    assert not metric_degenerate([silent], "accuracy", None)


def test_f1_of_several_classes_needs_ten_rows_of_each() -> None:
    for rows, refused in ((9, True), (10, False)):
        y = [np.r_[np.full(rows, 2), np.zeros(60), np.ones(60)]]
        assert metric_degenerate([[y[0][None, None]]], "f1", y) == refused
