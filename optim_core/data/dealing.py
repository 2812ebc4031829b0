"""Rows that belong together are dealt together: to folds of about equal size, each class's share in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Groups of rows. ``of``: (n,) each row's unit; ``sizes``, ``kinds``: (units,) rows and the most frequent class of each."""

    of: Ints
    sizes: Ints
    kinds: Ints

    @classmethod
    def make(cls, groups: NDArray[np.integer], y: NDArray[np.integer]) -> Units:
        """``groups``: (n,) labels of any value; ``y``: (n,) class codes from 0 on, all 0 where there are none."""
        _, of = np.unique(groups, return_inverse=True)
        sizes, classes = np.bincount(of), int(y.max(initial=0)) + 1
        pairs, counts = np.unique(of * classes + y, return_counts=True)
        # Of each unit the last one is its most frequent class.
        order = np.lexsort((counts, pairs // classes))
        kinds = np.zeros(len(sizes), dtype=np.int64)
        kinds[pairs[order] // classes] = pairs[order] % classes
        return cls(of, sizes, kinds)


def deal(units: Units, folds: int, rng: np.random.Generator) -> Ints:
    """(n,) the fold of each row.

    Larger units first, each to the fold that has the fewest rows of its kind so far, of several the one with the fewest rows;
    units of equal size in random order. Single rows even out what those leave, so the work is in the units of several.
    """
    fold_of, totals = np.zeros(len(units.sizes), dtype=np.int64), [0] * folds
    shuffled = rng.permutation(len(units.sizes))
    shuffled = shuffled[np.argsort(-units.sizes[shuffled], kind="stable")]
    for kind in np.unique(units.kinds):
        own = shuffled[units.kinds[shuffled] == kind]
        several, loads = int((units.sizes[own] > 1).sum()), [0] * folds
        for unit, size in zip(own[:several].tolist(), units.sizes[own[:several]].tolist(), strict=True):
            fold = min(range(folds), key=lambda f: (loads[f], totals[f]))
            fold_of[unit], loads[fold], totals[fold] = fold, loads[fold] + size, totals[fold] + size
        shares = _levelled(loads, totals, len(own) - several)
        fold_of[own[several:]] = np.repeat(np.arange(folds), shares)
        totals = [total + share for total, share in zip(totals, shares, strict=True)]
    return fold_of[units.of]


def portions(units: Units, fractions: tuple[float, float], rng: np.random.Generator) -> Ints:
    """(n,) 0 for training, 1 for validation, 2 for test: those shares of the rows of each kind, in whole units at random.

    ``fractions``: of validation and of test, 0 for none.
    """
    part_of, shuffled = np.zeros(len(units.sizes), dtype=np.int64), rng.permutation(len(units.sizes))
    for kind in np.unique(units.kinds):
        own = shuffled[units.kinds[shuffled] == kind]
        ends = np.cumsum(units.sizes[own])
        # A unit lies where its middle does.
        middles = (ends - units.sizes[own] / 2) / ends[-1]
        part_of[own[middles < sum(fractions)]] = 1
        part_of[own[middles < fractions[1]]] = 2
    return part_of[units.of]


def _levelled(loads: list[int], totals: list[int], more: int) -> list[int]:
    """How many of ``more`` each fold gets, so that loads are as even as can be; what is over goes where totals are smallest."""
    order = sorted(range(len(loads)), key=lambda f: loads[f])
    level, width = loads[order[0]], 1
    while width < len(order) and (loads[order[width]] - level) * width <= more:
        more -= (loads[order[width]] - level) * width
        level, width = loads[order[width]], width + 1
    shares = [max(0, level - load) for load in loads]
    each, over = divmod(more, width)
    for place, fold in enumerate(sorted(order[:width], key=lambda f: totals[f] + shares[f])):
        shares[fold] += each + (place < over)
    return shares
