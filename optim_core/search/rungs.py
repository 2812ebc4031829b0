"""Rungs: growing horizons. A configuration runs its whole schedule rescaled to each horizon and starts anew at the next,
so only like is compared with like (Wen et al. 2025, arXiv 2509.02046: rankings flip while the learning rate decays)."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np

from optim_core.recommend.history import Outcome, highest
from optim_core.spec.price import ETA, SHORTEST_RUNG
from optim_core.spec.trial import WORST_VALUE

MOST_RUNGS = 3
# Full trainings per optimizer that a budget pays for: with more than the first number a shorter rung saves nothing worth
# its errors; with fewer than the second, two shorter ones pay.
PLENTY, SCARCE = 12, 1
KEEP_FRACTION = 0.35
# Below this rank correlation between two rungs the lower one says little: promotion keeps twice as many.
TRUSTED_CORRELATION = 0.5


def horizons(full: int, affordable: float, optimizers: int) -> list[int]:
    """Steps of each rung, ascending, the last one the full horizon: [T], [T/4, T] or [T/16, T/4, T].

    As many as the price of a trial justifies (``affordable``: full trainings that the budget pays for) and as are long
    enough to mean anything.
    """
    each = affordable / optimizers
    wanted = 1 if each >= PLENTY else 2 if each >= SCARCE else MOST_RUNGS
    found = [full]
    while len(found) < wanted and found[0] // ETA >= SHORTEST_RUNG:
        found.insert(0, found[0] // ETA)
    return found


def rung_correlation(found: Sequence[Outcome], rung: int) -> float | None:
    """Spearman correlation of the objectives of trials seen on ``rung`` and the next; None with fewer than 5 of them."""
    low = {o.trial.number: o.result.objective for o in found if o.rung == rung}
    both = [(low[o.trial.number], o.result.objective) for o in found if o.rung == rung + 1 and o.trial.number in low]
    if len(both) < 5 or len({a for a, _ in both}) < 2 or len({b for _, b in both}) < 2:
        return None
    lower, upper = zip(*both, strict=True)
    return float(np.corrcoef(_ranks(lower), _ranks(upper))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """(n,) ranks, the mean of their places for equal values."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()
    return (last - (count - 1) / 2)[group]


def keep_fraction(found: Sequence[Outcome], rung: int) -> float:
    """Share of a rung's trials that is promoted, from how well it has predicted the next rung so far."""
    correlation = rung_correlation(found, rung)
    return KEEP_FRACTION if correlation is None or correlation >= TRUSTED_CORRELATION else 2 * KEEP_FRACTION


def promoted(found: Sequence[Outcome], rung: int, taken: set[int]) -> list[Outcome]:
    """Which trials of ``rung`` go to the next one, best first.

    ``found``: everything known; ``taken``: numbers of trials that were promoted before. Of all trials that the rung has
    seen the best share is due; and the best of each optimizer that is not hopeless. Diverged trials never; AdamW's default
    always, and as many of AdamW as of any rival, so that the baseline is never starved.
    """
    here = [o for o in found if o.rung == rung]
    alive = sorted((o for o in here if o.alive), key=lambda o: o.rank)
    if not alive:
        return []
    due = {o.trial.number for o in alive[: max(1, round(len(here) * keep_fraction(found, rung)))]}
    leader, middle = alive[0].result.objective, alive[len(alive) // 2].result.objective
    seen: set[str] = set()
    for outcome in alive:
        name = outcome.optimizer
        if name not in seen and (outcome.result.objective <= middle or name == "adamw" or leader == middle):
            due.add(outcome.trial.number)
        seen.add(name)
        if name == "adamw" and outcome.trial.origin == "default":
            due.add(outcome.trial.number)
    return _fair(
        [o for o in alive if o.trial.number not in taken], due, [o.optimizer for o in here if o.trial.number in taken]
    )


def _fair(waiting: Sequence[Outcome], due: set[int], before: Sequence[str]) -> list[Outcome]:
    """Those of ``waiting`` (best first) that are due, with more of AdamW where a rival would get ahead of it in number; where
    AdamW has no more, the rival waits. ``before``: optimizers of the trials promoted earlier.
    """
    counts = Counter(before)
    asked = counts + Counter(o.optimizer for o in waiting if o.trial.number in due)
    most = max((n for name, n in asked.items() if name != "adamw"), default=0)
    chosen = []
    for outcome in sorted(waiting, key=lambda o: (o.optimizer != "adamw", o.trial.number not in due, o.rank)):
        name = outcome.optimizer
        wanted = outcome.trial.number in due or (name == "adamw" and counts[name] < most)
        if wanted and (name == "adamw" or counts[name] < counts["adamw"]):
            counts[name] += 1
            chosen.append(outcome)
    return sorted(chosen, key=lambda o: o.rank)


def aligned(found: Sequence[Outcome]) -> list[tuple[Outcome, float]]:
    """Each trial once, at its highest rung, with an objective on the scale of the top rung.

    What a trial would have at the next rung is its objective plus the median change of the trials seen on both; without
    such trials, no change. Diverged trials keep the worst value. Samplers use the order alone.
    """
    top = max((o.rung for o in found), default=0)
    change = [0.0] * (top + 1)
    for rung in range(top - 1, -1, -1):
        low = {o.trial.number: o.result.objective for o in found if o.rung == rung and o.alive}
        steps = [o.result.objective - low[o.trial.number] for o in found
                 if o.rung == rung + 1 and o.alive and o.trial.number in low]  # fmt: skip
        change[rung] = change[rung + 1] + (statistics.median(steps) if steps else 0.0)
    best = highest(found)
    return [(o, o.result.objective + change[o.rung] if o.alive else WORST_VALUE) for _, o in sorted(best.items())]
