"""How much the learning rate of an optimizer matters, from what the search tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optim_core.recommend.enough import best_rate
from optim_core.recommend.history import Outcome
from optim_core.spec.recommendation import RateCost

# A learning rate is "as good as the best" within this share of the best metric.
WITHIN = 0.02
# Fewer rates say nothing about a range.
FEWEST = 3
# What a rate costs that is wrong by this factor; rates within the root of it around are that rate.
WRONG_BY = 3.0


def lr_width(mine: Sequence[Outcome], sign: int) -> float | None:
    """Decades between the smallest and the largest learning rate within 2 % of the best, on the rung with most trials; None
    with under 3 of them, and for methods without a learning rate.

    ``mine``: the search outcomes of one optimizer; ``sign``: 1 where a higher metric is better, else −1.
    """
    alive = [o for o in _busiest_rung(mine) if o.result.metric is not None]
    if len(alive) < FEWEST:
        return None
    gains = [sign * float(o.result.metric or 0.0) for o in alive]
    best = max(gains)
    rates = [float(o.lr or 1.0) for o, gain in zip(alive, gains, strict=True) if gain >= best - WITHIN * abs(best)]
    return math.log10(max(rates) / min(rates))


def rate_cost(mine: Sequence[Outcome], sign: int, around: float | None = None) -> RateCost | None:
    """What the best trial found at rates about three times too low and too high is worse by than the best one at the rate
    ``around``, by default the best; None for fewer than 3 trials, and without any at that rate. On the rung with most trials,
    where all were trained for the same number of steps.

    A diverged trial counts as the worst one seen. So does a side on which everything diverged; one that nobody tried is null.
    """
    rated = _busiest_rung(mine)
    metrics = [sign * o.result.metric for o in rated if o.result.metric is not None]
    if len(metrics) < FEWEST:
        return None
    middle, worst = around or best_rate(rated), min(metrics)

    def best_near(rate: float) -> float | None:
        near = [o for o in rated if abs(math.log((o.lr or 1.0) / rate)) <= math.log(WRONG_BY) / 2]
        return max((worst if o.result.metric is None else sign * o.result.metric for o in near), default=None)

    # Around the best rates there is a trial: their mean lies between them, but not always within the root of 3.
    best = max(metrics) if around is None else best_near(middle)
    if best is None:
        return None
    sides = (best_near(middle / WRONG_BY), best_near(middle * WRONG_BY))
    lower, higher = (None if side is None else best - side for side in sides)
    return RateCost(lower=lower, higher=higher)


def _busiest_rung(mine: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes that have a rate, of the rung with most survivors; the higher of equals."""
    rated = [o for o in mine if o.lr is not None]
    rungs = [o.rung for o in rated if o.alive]
    rung = max(set(rungs), key=lambda r: (rungs.count(r), r), default=0)
    return [o for o in rated if o.rung == rung]
