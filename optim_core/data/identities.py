"""Targets that are a sum of columns, as gross is net and tax: no column alone gives it away, and a model only adds them up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from optim_core.data.columns import Column
from optim_core.data.text import show

# Of more columns the sums of three, or any, are too many to try.
_MOST_FOR_THREE, _MOST = 40, 300
# What holds in so many rows with so many targets is no chance.
_FEWEST_ROWS, _FEWEST_VALUES = 20, 10
# Sums of decimals are off by less, as a share of their parts.
_EXACT = 1e-9


def sums(columns: Sequence[Column], y: np.ndarray, known: Collection[str]) -> dict[str, str]:
    """A warning, by the name of the first of the columns, where ``y`` (n,) is the sum or difference of two or three of them in
    every row that has all. ``known``: names of columns that give it away by themselves.
    """
    found = [one for one in columns if one.role == "number" and one.numbers is not None and one.numbers.shape[1] == 1]
    found = [one for one in found if one.name not in known]
    if not 2 <= len(found) <= _MOST or len(np.unique(y)) < _FEWEST_VALUES:
        return {}
    values = np.column_stack([one.numbers[:, 0] for one in found])  # type: ignore[index]
    for count in (2, 3) if len(found) <= _MOST_FOR_THREE else (2,):
        best = _signed_sum(values, y, count)
        if best is not None:
            first, *others = best
            parts = [("" if first[1] > 0 else "−") + show(found[first[0]].name)]
            parts += [f"{'+' if sign > 0 else '−'} {show(found[place].name)}" for place, sign in others]
            said = f"Warning possible_leakage: the target is {' '.join(parts)} to the last digit."
            return {found[first[0]].name: said}
    return {}


def _signed_sum(values: np.ndarray, y: np.ndarray, count: int) -> list[tuple[int, int]] | None:
    """(column, sign) of ``count`` columns of (n, d) ``values`` whose sum is ``y``, pluses first; None: there are none."""
    places = np.array(list(combinations(range(values.shape[1]), count)))
    if not len(places):
        return None
    signs = np.array([[1 if mask >> i & 1 else -1 for i in range(count)] for mask in reversed(range(1, 2**count))])
    which, how = (grid.ravel() for grid in np.meshgrid(np.arange(len(places)), np.arange(len(signs)), indexing="ij"))
    # Rows with the fewest gaps throw most out, one by one; a gap says nothing.
    for row in np.argsort(np.isnan(values).sum(axis=1), kind="stable")[:_FEWEST_ROWS]:
        parts = values[row][places[which]] * signs[how]
        fits = ~(np.abs(parts.sum(axis=1) - y[row]) > _EXACT * (np.abs(parts).sum(axis=1) + abs(y[row])))
        which, how = which[fits], how[fits]
    for combination, sign in zip(places[which], signs[how], strict=True):
        parts = values[:, combination] * sign
        there = ~np.isnan(parts).any(axis=1)
        off = np.abs(parts.sum(axis=1) - y) > _EXACT * (np.abs(parts).sum(axis=1) + np.abs(y))
        if there.sum() >= max(_FEWEST_ROWS, len(y) / 2) and not off[there].any():
            return sorted(zip(combination.tolist(), sign.tolist(), strict=True), key=lambda one: -one[1])
    return None
