"""Search strategies of other tools, in the form that our planner asks: to be compared at equal trial-steps.

Random and TPE train every trial in full. Median, ASHA and Hyperband take random configurations and look at full runs on the
way: they ``continue`` a run, so a trial that climbs pays for its further steps alone. Ours rescales the schedule instead and
starts anew.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import optuna

from optim_core.recommend.history import Outcome
from optim_core.search.halving import PortfolioHalving
from optim_core.search.strategy import Ask, State, Strategy
from optim_core.spec.keys import derive_seed
from optim_core.spec.price import ETA, SHORTEST_RUNG
from optim_core.spec.space import Choice, Domain, configuration_from, point_from, search_space
from optim_core.spec.trial import Configuration

MOST_RUNGS = 3
# Trials of each optimizer that a search is taken to have: how rich its space is.
_RICH = 15


class Contender(Strategy, Protocol):
    """``continues``: a trial that climbs goes on with the run that it has, whose schedule was always that of a full one."""

    continues: bool


def _ladder(full: int) -> list[int]:
    found = [full]
    while len(found) < MOST_RUNGS and found[0] // ETA >= SHORTEST_RUNG:
        found.insert(0, found[0] // ETA)
    return found


def _random(state: State) -> Iterator[Configuration]:
    """Random configurations of random optimizers, those after the ones that were asked for already."""
    start = len(state.asked)
    spaces = {name: search_space(name, _RICH, state.spec.search) for name in state.names}
    while True:
        rng = np.random.default_rng(derive_seed("random", state.spec.seed, start))
        name = state.names[int(rng.integers(len(state.names)))]
        point = {axis: _draw(domain, rng) for axis, domain in spaces[name].items()}
        yield configuration_from(name, point, state.spec.search)
        start += 1


def _draw(domain: Domain, rng: np.random.Generator) -> Choice:
    if domain.kind == "categorical":
        return domain.choices[int(rng.integers(len(domain.choices)))]
    if domain.log:
        return min(max(math.exp(rng.uniform(math.log(domain.low), math.log(domain.high))), domain.low), domain.high)
    return float(rng.uniform(domain.low, domain.high))


class Random:
    """Every trial in full."""

    continues = False

    def rungs(self, full: int, affordable: float, optimizers: int) -> list[int]:
        del affordable, optimizers
        return [full]

    def generation(self, state: State) -> list[Ask]:
        count = int(min(state.size, max(0.0, state.purse.steps) // state.horizons[-1]))
        return [Ask(c, "random", 0) for c, _ in zip(_random(state), range(count), strict=False)]


class Tpe(Random):
    """Optuna's TPE over one conditional space, every trial in full (Bergstra et al. 2011)."""

    def generation(self, state: State) -> list[Ask]:
        count = int(min(state.size, max(0.0, state.purse.steps) // state.horizons[-1]))
        study = self._study(state)
        return [Ask(self._ask(study, state), "model", 0) for _ in range(count)]

    def _study(self, state: State) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = derive_seed("tpe", state.spec.seed, state.generation)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
        known = [(o.trial.configuration, o.result.objective) for o in state.found]
        for configuration, value in [*known, *((t.configuration, None) for t, _ in state.pending)]:
            params, distributions = self._point(configuration, state)
            kept = optuna.trial.TrialState.RUNNING if value is None else optuna.trial.TrialState.COMPLETE
            study.add_trial(
                optuna.trial.create_trial(state=kept, params=params, distributions=distributions, value=value)
            )
        return study

    def _ask(self, study: optuna.Study, state: State) -> Configuration:
        trial = study.ask()
        name = str(trial.suggest_categorical("optimizer", state.names))
        point: dict[str, Choice] = {}
        for axis, domain in search_space(name, _RICH, state.spec.search).items():
            if domain.kind == "categorical":
                point[axis] = trial.suggest_categorical(f"{name}.{axis}", domain.choices)  # type: ignore[assignment]
            else:
                point[axis] = trial.suggest_float(f"{name}.{axis}", domain.low, domain.high, log=domain.log)
        return configuration_from(name, point, state.spec.search)

    def _point(
        self, configuration: Configuration, state: State
    ) -> tuple[dict[str, Choice], dict[str, optuna.distributions.BaseDistribution]]:
        name = configuration.optimizer
        space = search_space(name, _RICH, state.spec.search)
        params: dict[str, Choice] = {"optimizer": name}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            "optimizer": optuna.distributions.CategoricalDistribution(state.names)
        }
        for axis, value in point_from(configuration, space).items():
            domain = space[axis]
            params[f"{name}.{axis}"] = value
            distributions[f"{name}.{axis}"] = (
                optuna.distributions.CategoricalDistribution(domain.choices)
                if domain.kind == "categorical"
                else optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log)
            )
        return params, distributions


class _Climbing(ABC):
    """What median and ASHA share: climb first, then begin new random trials."""

    continues = True

    def rungs(self, full: int, affordable: float, optimizers: int) -> list[int]:
        del affordable, optimizers
        return _ladder(full)

    def generation(self, state: State) -> list[Ask]:
        asks, left = [], state.purse.steps
        for rung in range(state.top - 1, -1, -1):
            for outcome in self.climbs(state, rung):
                left -= state.horizons[rung + 1] - state.horizons[rung]
                if left < 0:
                    return asks
                asks.append(Ask(outcome.trial.configuration, outcome.trial.origin, rung + 1, outcome.trial))
        count = int(min(state.size, left // state.horizons[0]))
        return asks + [Ask(c, "random", 0) for c, _ in zip(_random(state), range(max(0, count)), strict=False)]

    @abstractmethod
    def climbs(self, state: State, rung: int) -> list[Outcome]:
        """Trials of ``rung`` that go on now."""


class Median(_Climbing):
    """Goes on where a trial is no worse than the median of all that came as far (Golovin et al. 2017)."""

    def climbs(self, state: State, rung: int) -> list[Outcome]:
        here = [o for o in state.found if o.rung == rung]
        if not here:
            return []
        middle = statistics.median(o.result.objective for o in here)
        return [o for o in _waiting(state, here, rung) if o.alive and o.result.objective <= middle]


class Asha(_Climbing):
    """Goes on where a trial is among the best quarter of all that came as far (Li et al. 2020, arXiv 1810.05934)."""

    def climbs(self, state: State, rung: int) -> list[Outcome]:
        here = sorted((o for o in state.found if o.rung == rung), key=lambda o: o.rank)
        return [o for o in _waiting(state, here[: len(here) // ETA], rung) if o.alive]


class Hyperband:
    """Brackets of successive halving that begin on the first rung, the second and the last, in turn (Li et al. 2018,
    arXiv 1603.06560). A bracket ends before the next one begins.
    """

    continues = True

    def rungs(self, full: int, affordable: float, optimizers: int) -> list[int]:
        del affordable, optimizers
        return _ladder(full)

    def generation(self, state: State) -> list[Ask]:
        if state.pending:
            return []
        sizes = Counter(trial.origin for trial in state.asked)
        bracket = max((int(name.split("-")[1]) for name in sizes), default=-1)
        if bracket >= 0:
            climbing = self._halved(state, bracket)
            if climbing:
                return climbing
            bracket += 1
        else:
            bracket = 0
        first = bracket % len(state.horizons)
        height = state.top - first
        count = math.ceil((state.top + 1) / (height + 1) * ETA**height)
        count = int(min(count, max(0.0, state.purse.steps) // state.horizons[first]))
        return [Ask(c, f"bracket-{bracket}", first) for c, _ in zip(_random(state), range(count), strict=False)]

    def _halved(self, state: State, bracket: int) -> list[Ask]:
        """The best quarter of the bracket's highest rung, or nothing at the top."""
        mine = [o for o in state.found if o.trial.origin == f"bracket-{bracket}"]
        rung = max((o.rung for o in mine), default=state.top)
        if rung >= state.top:
            return []
        here = sorted((o for o in mine if o.rung == rung and o.alive), key=lambda o: o.rank)
        price = state.horizons[rung + 1] - state.horizons[rung]
        count = int(min(max(1, len(here) // ETA), max(0.0, state.purse.steps) // price))
        return [Ask(o.trial.configuration, o.trial.origin, rung + 1, o.trial) for o in here[:count]]


class Ours(PortfolioHalving):
    """The product's own."""

    continues = False


def _waiting(state: State, here: Sequence[Outcome], rung: int) -> list[Outcome]:
    taken = {o.trial.number for o in state.found if o.rung > rung} | {t.number for t, r in state.pending if r > rung}
    return [o for o in here if o.trial.number not in taken]


STRATEGIES: Mapping[str, type[Contender]] = {
    "random": Random, "TPE": Tpe, "median": Median, "ASHA": Asha, "Hyperband": Hyperband, "ours": Ours,
}  # fmt: skip
