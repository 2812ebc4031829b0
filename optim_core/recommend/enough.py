"""Enough search: what must have been tried before a verdict may be spoken about an optimizer.

Wherever one learning rate more would have changed the sentence, the sentence was about the search and not about optimizers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optim_core.recommend.history import Outcome, best_of
from optim_core.recommend.tuning import expected_best

# AdamW is the yardstick: so many learning rates over so many decades, with the best of them inside.
BASELINE_RATES, BASELINE_DECADES = 8, 2.0
# A rival's best rate has a worse one on either side.
RIVAL_RATES = 3
# Rates closer than this factor are one rate.
SAME_RATE = 1.25
# The best rate lies inside what was tried when rates this much smaller and larger were tried. Nearer ones may be worse by luck:
# with AdamW's range cut far away from its best rate, two of 30 studies had a best one 1.3 to 1.5 times inside the cut.
INSIDE = 2.0
BEST_SHARE = 0.05
# Methods without a learning rate have been tried after so many trials.
TRIALS_WITHOUT_RATE = 3


@dataclass(frozen=True)
class Tried:
    """What was tried of one optimizer on the two highest rungs. ``lacks``: why that is not enough, None when it is.

    ``trials``: all of its search trials; ``full``: those at the full horizon; ``edge``: the side on which no rate beyond the
    best one was tried. ``value``: the metric of its best trial on the validation split, at the longest ``horizon`` on which
    any survived. ``growth``: by how much the best of all its trials at the full horizon is expected to be better than that of
    half of them, in the metric's unit; infinite where they are fewer than two.
    """

    optimizer: str
    trials: int
    full: int
    rates: int
    decades: float
    edge: str | None
    plateau: bool
    lacks: str | None
    value: float | None = None
    horizon: int = 0
    growth: float = 0.0

    @property
    def enough(self) -> bool:
        return self.lacks is None

    @property
    def more_may_help(self) -> bool:
        """Whether more trials may bring what is lacking: not where all that counted scored alike or diverged."""
        return not self.plateau and (self.trials == 0 or self.value is not None)


def tried(found: Sequence[Outcome], optimizer: str, top: int) -> Tried:
    """``found``: the study's search outcomes; ``top``: the rung of the full horizon."""
    mine = [o for o in found if o.optimizer == optimizer]
    near = [o for o in mine if o.rung >= top - 1]
    best = best_of([o for o in near if o.alive])
    rates = distinct([o.lr for o in near if o.lr is not None])
    decades = math.log10(rates[-1] / rates[0]) if len(rates) > 1 else 0.0
    plateau = len(near) > 1 and len({o.result.metric for o in near if o.alive}) == 1
    side = None if best is None or best.lr is None else edge(best_rate(near), rates)
    longest = best_of([o for o in mine if o.alive])
    return Tried(
        optimizer=optimizer,
        trials=len({o.trial.number for o in mine}),
        full=len({o.trial.number for o in mine if o.rung == top}),
        rates=len(rates),
        decades=decades,
        edge=side,
        plateau=plateau,
        lacks=_lacks(optimizer, near, best, rates, decades, side, plateau),
        value=None if longest is None else longest.result.metric,
        horizon=0 if longest is None else longest.horizon,
        growth=_growth([o for o in mine if o.rung == top and o.alive]),
    )


def _growth(full: Sequence[Outcome]) -> float:
    """See ``Tried.growth``. What the last doubling of a search brought is what the next one may bring, and rather more."""
    if len(full) < 2:
        return math.inf
    ordered = [float(o.result.metric or 0.0) for o in sorted(full, key=lambda o: o.rank, reverse=True)]
    values = np.array(ordered) * (1 if ordered[-1] >= ordered[0] else -1)
    return expected_best(values, len(values)) - expected_best(values, len(values) // 2)


def best_rate(found: Sequence[Outcome]) -> float:
    """Where the best learning rates lie: the geometric mean over the best ``BEST_SHARE`` of the trials, of few the best one's.

    Of hundreds the single best is mostly lucky, and so is its rate. ``found``: outcomes with rates, one of them alive.
    """
    alive = [o for o in found if o.alive and o.lr is not None]
    top = max(o.rung for o in alive)
    ordered = sorted((o for o in alive if o.rung == top), key=lambda o: o.rank)
    leaders = ordered[: max(1, math.ceil(BEST_SHARE * len(ordered)))]
    return math.exp(sum(math.log(o.lr or 1.0) for o in leaders) / len(leaders))


def edge(rate: float, rates: Sequence[float]) -> str | None:
    """``low`` or ``high`` when no rate well beyond ``rate`` was tried on that side; None inside."""
    if rates[-1] < rate * INSIDE:
        return "high"
    return "low" if rates[0] > rate / INSIDE else None


def distinct(rates: Sequence[float]) -> list[float]:
    """Rates in ascending order, those closer than ``SAME_RATE`` to the one before counted once; ends are kept."""
    kept: list[float] = []
    for rate in sorted(rates):
        if not kept or rate > kept[-1] * SAME_RATE:
            kept.append(rate)
    return [*kept[:-1], max(kept[-1], max(rates))] if kept else []


def _lacks(
    optimizer: str,
    near: Sequence[Outcome],
    best: Outcome | None,
    rates: Sequence[float],
    decades: float,
    side: str | None,
    plateau: bool,
) -> str | None:
    if not near:
        return "never tried at a length that counts"
    if best is None:
        return "every trial diverged"
    if best.lr is None:
        count = len({o.trial.number for o in near})
        return None if count >= TRIALS_WITHOUT_RATE else f"only {count} of {TRIALS_WITHOUT_RATE} trials"
    if optimizer == "adamw":
        if len(rates) < BASELINE_RATES or decades < BASELINE_DECADES - 0.05:
            wanted = f"{BASELINE_RATES} over {BASELINE_DECADES:g} decades"
            tried_n = (
                "one learning rate" if len(rates) == 1 else f"{len(rates)} learning rates over {decades:.1f} decades"
            )
            return f"only {tried_n}, {wanted} are needed"
    elif len(rates) < RIVAL_RATES:
        return f"only {len(rates)} of {RIVAL_RATES} learning rates"
    if side is not None:
        beyond = "larger" if side == "high" else "smaller"
        rate, end = best_rate(near), rates[-1] if side == "high" else rates[0]
        place = "the" if max(rate / end, end / rate) < SAME_RATE else "among the"
        return f"the best learning rate, {rate:.2g}, is {place} {side}est tried: a {beyond} one may be better"
    if plateau:
        return "every trial scored the same"
    return None
