"""Proposals: one Optuna study per optimizer, rebuilt from the history each time. Nothing survives but the trials."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optim_core.recommend.history import Outcome
from optim_core.search.portfolio import BEYOND, given_range
from optim_core.search.rungs import aligned
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import Search
from optim_core.spec.space import Choice, Domain, configuration_from, point_from, search_space
from optim_core.spec.trial import Configuration, TrialParams, identity

if TYPE_CHECKING:
    import optuna

# Below this many results proposals are drawn at random: a model of three points knows nothing.
STARTUP_TRIALS = 6
# Factor around the best learning rate so far in which new ones are proposed; the grid has looked at the rest.
RATES_AROUND = 10.0
# Of so many proposals one is drawn from everywhere: where few rows make scores coarse and short runs make most rates alike, the
# best so far may lie on a plateau far from the peak, and nothing around it would ever say so.
EVERYWHERE = 8
# Breeding: the share of trials that are parents, the step along an axis as a share of its range, how often a choice is drawn
# anew.
BREEDERS, STEP, MUTATION = 0.2, 0.1, 0.1
# More parents than these bring no more variety, and each has to be read.
MOST_BREEDERS = 1000
# What a sampler learns from: the best of an optimizer's trials, and of the others as many as fit. It only needs to know
# where good and bad lie, and its time grows with their number.
MOST_BEST, MOST_SEEN = 25, 75
# Of trials without a result the latest: one worker has no more on its way, a cluster thousands, which say no more than these.
MOST_PENDING = 512


def suggest(
    optimizer: str,
    count: int,
    modelled: int,
    seen: Sequence[Outcome],
    pending: Sequence[TrialParams],
    budgeted: int,
    search: Search,
    seed: int,
    generation: int,
) -> list[Configuration]:
    """``count`` new configurations of ``optimizer``: some from everywhere, ``modelled`` by Optuna's model, the others bred from
    the best.

    ``seen``: its outcomes so far, of all rungs; ``pending``: its trials without a result; ``budgeted``: trials it will have in
    all, which sets how rich its space is. The same arguments give the same proposals, in any process.
    """
    space = search_space(optimizer, budgeted, search)
    if not space:
        return []
    ordered, whole = ranked(seen), dict(space)
    if "lr" in space:
        space["lr"] = _rates(optimizer, space["lr"], ordered, search)
    start = derive_seed("suggest", seed, optimizer, generation)
    parents = [point_from(o.trial.configuration, space) for o in _breeders([o for o in ordered if o.alive])]
    wide = _wide(count, start) if len(ordered) >= STARTUP_TRIALS else 0
    bred = max(0, count - wide - modelled) if len(ordered) >= STARTUP_TRIALS and parents else 0
    known = {identity(t.configuration) for t in [o.trial for o in ordered] + list(pending)}
    proposals: list[Configuration] = []

    def add(points: Iterator[Mapping[str, Choice]], wanted: int) -> None:
        for point in itertools.islice(points, 4 * wanted):
            if wanted == 0:
                break
            configuration = configuration_from(optimizer, point, search)
            if identity(configuration) not in known:
                known.add(identity(configuration))
                proposals.append(configuration)
                wanted -= 1

    if count > bred + wide:
        enough = len(ordered) >= STARTUP_TRIALS
        points = _asked(_study(space, ordered, pending, start), space) if enough else drawn(space, start)
        add(points, count - bred - wide)
    if wide:
        add(drawn(whole, start), wide)
    if bred:
        add(children(parents, space, start), bred)
    return proposals


def _wide(count: int, seed: int) -> int:
    """How many of ``count`` proposals are drawn from everywhere; of a few, one by chance."""
    return int(count / EVERYWHERE + np.random.default_rng(seed).random())


def _breeders(alive: Sequence[Outcome]) -> Sequence[Outcome]:
    """The best of ``alive`` (best first)."""
    return alive[: min(MOST_BREEDERS, max(2, math.ceil(len(alive) * BREEDERS)))]


def children(
    parents: Sequence[Mapping[str, Choice]], space: Mapping[str, Domain], seed: int
) -> Iterator[dict[str, Choice]]:
    """Points bred from ``parents`` without end: each axis from one of two of them, moved a little.

    A model takes milliseconds a proposal; where a trial takes little more, breeding keeps the machine training.
    """
    rng = np.random.default_rng(seed)
    while True:
        pair = [parents[int(i)] for i in rng.integers(0, len(parents), 2)]
        child: dict[str, Choice] = {}
        for name, domain in space.items():
            value = pair[int(rng.integers(2))][name]
            if domain.kind == "categorical":
                child[name] = _draw(domain, rng) if rng.random() < MUTATION else value
                continue
            low, high = _ends(domain)
            at = (math.log(float(value)) if domain.log else float(value)) + STEP * (high - low) * rng.standard_normal()
            child[name] = _inside(domain, at)
        yield child


def drawn(space: Mapping[str, Domain], seed: int) -> Iterator[dict[str, Choice]]:
    """Points drawn evenly, rates on their log scale, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield {name: _draw(domain, rng) for name, domain in space.items()}


def _draw(domain: Domain, rng: np.random.Generator) -> Choice:
    if domain.kind == "categorical":
        return domain.choices[int(rng.integers(len(domain.choices)))]
    return _inside(domain, rng.uniform(*_ends(domain)))


def _ends(domain: Domain) -> tuple[float, float]:
    """On the scale of the search."""
    return (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)


def _inside(domain: Domain, at: float) -> float:
    """The value at a place on the scale of the search, moved inside."""
    low, high = _ends(domain)
    at = min(max(at, low), high)
    return min(max(math.exp(at), domain.low), domain.high) if domain.log else at


def _asked(study: optuna.Study, space: Mapping[str, Domain]) -> Iterator[dict[str, Choice]]:
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    while True:
        yield study.ask(distributions).params


def ranked(seen: Sequence[Outcome]) -> list[Outcome]:
    """Each trial once, at its highest rung, best first. Ranks are what a sampler is fed: a better metric stays better."""
    return [o for o, _ in sorted(aligned(seen), key=lambda pair: (pair[1], pair[0].trial.number))]


def _rates(optimizer: str, domain: Domain, ordered: Sequence[Outcome], search: Search) -> Domain:
    """The rates around the best one; beyond the catalogue's range where the best lies at its edge."""
    best = next((o for o in ordered if o.alive and o.lr is not None), None)
    if best is None or best.lr is None:
        return domain
    low, high = best.lr / RATES_AROUND, best.lr * RATES_AROUND
    ends = given_range(optimizer, search) or (domain.low / BEYOND, domain.high * BEYOND)
    low, high = max(low, ends[0]), min(high, ends[1])
    return replace(domain, low=low, high=high) if low < high else domain


def _study(
    space: dict[str, Domain], ordered: Sequence[Outcome], pending: Sequence[TrialParams], seed: int
) -> optuna.Study:
    # A third of a second of imports, only where there is something to learn from.
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: _distribution(domain) for name, domain in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=0)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    for rank, outcome in enumerate(_thinned(ordered)):
        point = point_from(outcome.trial.configuration, space)
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, params=dict(point), distributions=distributions, value=float(rank))
        )
    for trial in pending[-MOST_PENDING:]:
        # Counted as bad until known, so that nobody proposes the same again.
        point = point_from(trial.configuration, space)
        study.add_trial(create_trial(state=TrialState.RUNNING, params=dict(point), distributions=distributions))
    return study


def _thinned(ordered: Sequence[Outcome]) -> list[Outcome]:
    """The best and, evenly chosen, some of the others, best first."""
    best, rest = list(ordered[:MOST_BEST]), ordered[MOST_BEST:]
    stride = max(1, math.ceil(len(rest) / (MOST_SEEN - MOST_BEST)))
    return best + list(rest[::stride])


def _distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if domain.kind == "categorical":
        return CategoricalDistribution(domain.choices)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
