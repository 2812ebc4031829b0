"""Curves are kept short without losing a peak, and come back from their bytes as they were."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optim_core.spec.curves import MOST_POINTS, extended, merged, packed, thinned, unpacked
from optim_core.spec.trial import CurvePoint

NUMBERS = ("train_loss", "loss", "value")
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
points = st.builds(CurvePoint, step=st.integers(0, 2**40), train_loss=number, loss=number, value=number)


def by_step(found: list[CurvePoint]) -> list[CurvePoint]:
    return merged([], found)


curves = st.lists(points, max_size=120).map(by_step)


@given(curves)
def test_bytes_give_the_points_back(curve: list[CurvePoint]) -> None:
    assert unpacked(packed(curve)) == curve
    assert len(packed(curve)) == 32 * len(curve)


def test_half_a_point_is_refused() -> None:
    with pytest.raises(struct.error):
        unpacked(packed([CurvePoint(step=1, train_loss=None, loss=1.0, value=None)])[:-1])


def extremes(curve: list[CurvePoint]) -> list[tuple[float, float] | None]:
    told = [[x for x in (getattr(p, name) for p in curve) if x is not None] for name in NUMBERS]
    return [(min(one), max(one)) if one else None for one in told]


@given(curves, st.integers(8, 40))
def test_a_thinned_curve_keeps_its_ends_and_its_peaks(curve: list[CurvePoint], limit: int) -> None:
    kept = thinned(curve, limit)
    assert len(kept) <= limit
    assert [p.step for p in kept] == sorted({p.step for p in kept})
    assert all(p in curve for p in kept)
    if curve:
        assert (kept[0], kept[-1]) == (curve[0], curve[-1])
    assert extremes(kept) == extremes(curve)


def test_points_without_any_number_are_thinned_too() -> None:
    bare = [CurvePoint(step=step, train_loss=None, loss=None, value=None) for step in range(100)]
    assert 8 <= len(thinned(bare, 20)) <= 20


@given(curves, st.lists(points, max_size=20))
def test_points_are_added_as_if_they_had_been_told_at_once(curve: list[CurvePoint], told: list[CurvePoint]) -> None:
    assert unpacked(extended(packed(curve), told)) == merged(curve, told)


def test_of_one_step_what_was_told_last_counts_and_nothing_is_forgotten() -> None:
    first = CurvePoint(step=3, train_loss=1.0, loss=2.0, value=None)
    again = CurvePoint(step=3, train_loss=None, loss=5.0, value=0.5)
    assert merged([first], [again]) == [CurvePoint(step=3, train_loss=1.0, loss=5.0, value=0.5)]


def test_a_curve_that_grows_point_by_point_stays_short_even_and_keeps_its_peaks() -> None:
    data, peak, dip = b"", 12_345, 777
    for step in range(20_000):
        loss = {peak: 1e6, dip: -1e6}.get(step, float(step % 7))
        data = extended(data, [CurvePoint(step=step, train_loss=None, loss=loss, value=None)])
        assert len(data) <= 32 * MOST_POINTS
    kept = unpacked(data)
    assert {0, peak, dip, 19_999} <= {p.step for p in kept}
    # No stretch is bare: what was thinned often is as dense as what was thinned last.
    gaps = [after.step - before.step for before, after in pairwise(kept)]
    assert max(gaps) < 20_000 / 50
