"""What is tried before any model proposes: AdamW's learning rates, and every rival at rates scaled from AdamW's best.

Good learning rates of optimizers are related: what is ten times too high for one is about ten times too high for the others.
So the ratio of two defaults, which the catalogue knows, carries what was found for one over to the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from optim_core.recommend.enough import best_rate, distinct, edge
from optim_core.recommend.history import Outcome
from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter
from optim_core.spec.problem import Search
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.trial import Configuration, identity

HALF_DECADE = math.sqrt(10)
# Multiples of AdamW's default, the most promising first: nine rates over four decades. Small networks often want more.
GRID = tuple(HALF_DECADE**power for power in (0, 2, 1, 3, -1, -2, 4, -3, -4))
AROUND = (1.0, 1 / HALF_DECADE, HALF_DECADE)
# How far beyond its catalogue range a rate may be pushed when the best one lies at the edge.
BEYOND = 100.0


def rate_row(optimizer: str) -> Hyperparameter | None:
    """The catalogue's row of an optimizer's learning rate; None for a method without one."""
    return next((h for h in OPTIMIZERS[optimizer].hyperparameters if h.name == "lr"), None)


def given_range(optimizer: str, search: Search) -> tuple[float, float] | None:
    """The range of learning rates that the person gave; nothing outside it is ever tried."""
    given = search.ranges.get(optimizer, {}).get("lr")
    return None if given is None else (given[0], given[1])


def rivals_in_turn(names: Sequence[str]) -> list[str]:
    """The optimizers besides AdamW, those of different kinds first: the last named of each family, then the one before it. (The
    catalogue is in the order of time: later ones were made to be better than the earlier.)

    Where a budget cannot bracket them all, the first of these are tried: few of different kinds tell more than many alike.
    """
    families: dict[str, list[str]] = {}
    for name in reversed(names):
        if name != "adamw":
            families.setdefault(OPTIMIZERS[name].family, []).append(name)
    turns = itertools.zip_longest(*families.values())
    return [name for turn in turns for name in turn if name is not None]


def baseline_grid(search: Search, count: int) -> list[Configuration]:
    """At most ``count`` learning rates of AdamW, the rest at its defaults, the default itself first.

    Half a decade apart over the catalogue's range; spread evenly (in log) over a range that the person gave.
    """
    row = rate_row("adamw")
    assert row is not None
    rates = [min(max(float(row.default) * factor, row.low), row.high) for factor in GRID]
    given = given_range("adamw", search)
    if given is not None:
        low, high = math.log10(given[0]), math.log10(given[1])
        # One less: the default comes first.
        points = len(GRID) - 1
        spread = [10 ** (low + (high - low) * i / (points - 1)) for i in range(points)]
        # From the middle outwards.
        rates = sorted(spread, key=lambda rate: abs(math.log10(rate) - (low + high) / 2))
    first = default_configuration("adamw", search)
    return _new([first, *(at_rate("adamw", rate, search) for rate in rates)], [])[: max(1, count)]


def at_rate(optimizer: str, rate: float, search: Search) -> Configuration:
    """The optimizer's defaults at another learning rate, inside the person's range."""
    return configuration_from(optimizer, {"lr": rate}, search)


def scaled(optimizer: str, baseline: float, search: Search) -> list[Configuration]:
    """A rival's defaults at the rate that corresponds to AdamW's ``baseline``, and half a decade below and above.

    A method without a learning rate has nothing to scale.
    """
    row, own = rate_row("adamw"), rate_row(optimizer)
    if row is None or own is None:
        return []
    middle = min(max(baseline * float(own.default) / float(row.default), own.low), own.high)
    return _new([at_rate(optimizer, middle * factor, search) for factor in AROUND], [])


def beyond_edge(
    optimizer: str, seen: Sequence[Outcome], asked: Sequence[Configuration], search: Search, count: int
) -> list[Configuration]:
    """Up to ``count`` rates beyond the edge at which the best rate lies, half a decade apart; empty when it lies inside.

    ``seen``: the optimizer's outcomes where a rate counts; ``asked``: configurations that were asked for already. The best
    configuration is kept in everything but its rate.
    """
    alive = [o for o in seen if o.alive and o.lr is not None]
    if not alive:
        return _below_all(optimizer, seen, asked, search, count)
    top = max(o.rung for o in alive)
    best = min((o for o in alive if o.rung == top), key=lambda o: o.rank)
    rate = best_rate(alive)
    side = edge(rate, distinct([o.lr for o in seen if o.lr is not None]))
    if side is None:
        return []
    factor = HALF_DECADE if side == "high" else 1 / HALF_DECADE
    rates = [rate * factor**i for i in range(1, count + 1)]
    return _new([_moved(best.trial.configuration, rate) for rate in _legal(optimizer, rates, search)], asked)


def _below_all(
    optimizer: str, seen: Sequence[Outcome], asked: Sequence[Configuration], search: Search, count: int
) -> list[Configuration]:
    """Everything diverged: smaller rates than any tried."""
    tried = [o for o in seen if o.lr is not None]
    if not tried:
        return []
    lowest = min(tried, key=lambda o: (o.lr or 0.0, o.trial.number))
    rates = [float(lowest.lr or 0.0) / 10**i for i in range(1, count + 1)]
    return _new([_moved(lowest.trial.configuration, rate) for rate in _legal(optimizer, rates, search)], asked)


def _legal(optimizer: str, rates: Sequence[float], search: Search) -> list[float]:
    row, given = rate_row(optimizer), given_range(optimizer, search)
    assert row is not None
    low, high = given or (row.low / BEYOND, row.high * BEYOND)
    return [rate for rate in rates if low <= rate <= high]


def _moved(configuration: Configuration, rate: float) -> Configuration:
    return configuration.model_copy(update={"hyperparameters": {**configuration.hyperparameters, "lr": rate}})


def _new(proposals: Sequence[Configuration], known: Sequence[Configuration]) -> list[Configuration]:
    """``proposals`` without repetition and without what is known."""
    seen, fresh = {identity(c) for c in known}, []
    for configuration in proposals:
        text = identity(configuration)
        if text not in seen:
            seen.add(text)
            fresh.append(configuration)
    return fresh
