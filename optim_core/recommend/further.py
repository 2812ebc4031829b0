"""What would decide an undecided comparison, and when a metric cannot carry one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optim_core.recommend.interval import Difference
from optim_core.recommend.row_scores import Folds

MOST_SEEDS = 40
# More rows than so many times those that there are are no advice; for small tables up to so many are.
MOST_ROWS_TIMES, MOST_ROWS = 10, 10_000
# F1 of fewer rows of a class, or of runs that answer without it more often, is a matter of luck. Of several classes each has
# only its share: five with ten rows in the rarest were covered in .97 to .99.
FEWEST_MINORITY_ROWS, FEWEST_OF_SEVERAL, MOST_SILENT_RUNS = 30, 10, 0.1


@dataclass(frozen=True)
class Decider:
    """``seeds``: how many in all would decide; null when no number does. ``rows``: then how many scored rows in all would;
    null where that is more than anybody would collect.
    """

    seeds: int | None
    rows: int | None


def what_would_decide(found: Difference, margin: float) -> Decider:
    """Seeds, or else rows, that would decide if mean and components stay as they are.

    Decided is a half width below the mean where that exceeds the margin (``better``), else below the margin minus the mean
    (``no_difference``). Seeds divide the variance of seeds and what is noise in that of rows; folds stay. The rows that
    would decide are rounded up to two digits.
    """
    target = found.mean if found.mean > margin else margin - found.mean
    if target <= 0:
        return Decider(None, None)
    s, floor = found.spread, found.floor
    noise = s.noise / (s.rows * s.wide)
    lasting = max(0.0, s.row - noise / s.seeds)
    for seeds in range(max(s.seeds, 2), MOST_SEEDS + 1):
        then = replace(s, row=lasting + noise / seeds, seed=s.seed * s.seeds / seeds, seeds=seeds)
        if max(then.half_width(found.alpha), floor) < target:
            return Decider(seeds, None)
    wanted = s.rows * max((s.half_width(found.alpha) / target) ** 2, floor / target)
    digits = 10 ** max(0, math.floor(math.log10(wanted)) - 1) if wanted > 0 else 1
    return Decider(None, max(s.rows + 1, math.ceil(wanted / digits) * digits))


def all_would_decide(found: Sequence[Difference], margin: float, rows: int) -> Decider:
    """What would end the comparison of several rivals with one base. ``rows``: how many there are.

    One rival ahead by more than the margin suffices, once that is shown: the one that needs least. With none ahead by so much,
    all that may still be better have to be shown not to be: what the most demanding of them needs. Without rows only seeds can.
    """
    ahead = [d for d in found if d.mean > margin]
    needs = [what_would_decide(d, margin) for d in ahead or [d for d in found if d.high > margin]]
    most, seeds = (min if ahead else max), [need.seeds for need in needs if need.seeds is not None]
    if seeds and (ahead or len(seeds) == len(needs)):
        return Decider(most(seeds), None)
    wanted = [need.rows for need in needs if need.rows is not None]
    if rows == 0 or not wanted or (not ahead and any(need.seeds is None and need.rows is None for need in needs)):
        return Decider(None, None)
    # What was kept of many rows are means of blocks of them.
    each = rows / found[0].spread.rows
    least = math.ceil(most(wanted) * each)
    return Decider(None, least if least <= max(MOST_ROWS, MOST_ROWS_TIMES * rows) else None)


def metric_degenerate(configurations: Sequence[Folds], metric: str, targets: Folds | None) -> bool:
    """Whether F1 or balanced accuracy cannot carry a comparison; other metrics always can.

    Of two classes: fewer than 30 rows of the rarer, or of F1 more than a tenth of any configuration's runs that never answer
    with it where their rows hold it. Of several: fewer than 10 rows of the rarest.
    """
    if metric not in ("f1", "balanced_accuracy") or targets is None:
        return False
    classes, counts = np.unique(np.concatenate([np.asarray(y) for y in targets]), return_counts=True)
    if len(classes) > 2:
        return bool(counts.min() < FEWEST_OF_SEVERAL)
    if len(classes) < 2 or counts.min() < FEWEST_MINORITY_ROWS:
        return True
    if metric != "f1":
        return False
    rarest = classes[counts.argmin()]
    held = [k for k, y in enumerate(targets) if (np.asarray(y) == rarest).any()]
    return any(
        float(np.mean([~(np.asarray(each[k]) == rarest).any(axis=-1) for k in held])) > MOST_SILENT_RUNS
        for each in configurations
    )
