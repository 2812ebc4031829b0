"""The product's own strategy: a portfolio scaled from AdamW's best rate, then a model per optimizer, over growing rungs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from optim_core.recommend.history import best_of
from optim_core.search import rungs
from optim_core.search.allocation import slots
from optim_core.search.portfolio import AROUND, GRID, baseline_grid, beyond_edge, rivals_in_turn, scaled
from optim_core.search.strategy import BLIND, Ask, State
from optim_core.search.suggest import STARTUP_TRIALS, suggest
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import Configuration, identity

# AdamW's grid takes at most this share of the trials that a budget allows.
GRID_SHARE = 0.5
# What a budget in time or steps allows at least, however small.
SMALLEST_GRID = 3
# Proposals of a generation that a model makes; the others are bred, in no time.
MODELLED = 24
# Origins of proposals: before a model has seen enough, and after.
PROPOSED = ("random", "model")
# The share of what is left that one generation may take.
MOST_AT_ONCE = 0.5
# Below this part of a usual generation a search in time ends.
SMALLEST_SHARE = 8
# Rates tried at once beyond an edge: of AdamW, whose grid everything is scaled from, and of a rival.
EDGE_BASELINE, EDGE_RIVAL = 3, 1


class PortfolioHalving:
    """See ``strategy.Strategy``.

    Generation 0 is AdamW's grid, at the rung below the full horizon, where rates count. Generation 1 are the rivals' defaults,
    and in a cluster what its other workers can train meanwhile. From then on: promotions, rates beyond an edge, rivals at rates
    scaled from AdamW's best, and what the models propose.
    """

    def rungs(self, full: int, affordable: float, optimizers: int) -> list[int]:
        return rungs.horizons(full, affordable, optimizers)

    def generation(self, state: State) -> list[Ask]:
        if state.generation == 0:
            return self._grid(state)
        if state.generation == 1 and len(state.names) > 1 and not state.found:
            asks = self._defaults(state)
            return asks + self._meanwhile(state, asks)
        climbing = self._promotions(state)
        left = state.purse.steps - sum(state.horizons[ask.rung] for ask in climbing)
        return climbing + (self._new_trials(state, left) if state.found else [])

    def _grid(self, state: State) -> list[Ask]:
        rung = max(0, state.top - 1)
        rivals = len(state.names) > 1
        share = GRID_SHARE if rivals else 1.0
        # The first rates cost little more than one: they train in one pack.
        in_time = max(1 if state.spec.external else SMALLEST_GRID, share * state.purse.steps / state.horizons[rung])
        count = max(1, int(min(len(GRID), share * state.purse.trials, in_time)))
        configurations = baseline_grid(state.spec.search, count)
        return [Ask(c, "default" if i == 0 else "grid", rung) for i, c in enumerate(configurations)]

    def _defaults(self, state: State) -> list[Ask]:
        # A rival whose rate cannot be bracketed would be tried for nothing: no claim could be made about it.
        affordable = min(state.purse.trials, max(0.0, state.purse.steps / _price(state)))
        names = rivals_in_turn(state.names)
        entering = min(len(names), round(affordable / (1 + len(AROUND))))
        if affordable >= 1:
            entering = max(1, entering)
        return [Ask(default_configuration(name, state.spec.search), "default", 0) for name in names[:entering]]

    def _meanwhile(self, state: State, before: Sequence[Ask]) -> list[Ask]:
        """What else a cluster tries before anything is known: configurations from everywhere, for workers that would wait. Only
        where the clock alone ends the search, so that it costs nothing; any other budget is better spent later.
        """
        budget = state.spec.budget
        others = (budget.trials, budget.train_steps, budget.device_seconds)
        if state.workers <= BLIND or budget.seconds is None or any(limit is not None for limit in others):
            return []
        most = MOST_AT_ONCE * state.purse.steps / _price(state)
        idle = state.at_once - max(len(state.pending) + len(before), BLIND * state.at_once // state.workers)
        count = int(min(idle, state.purse.trials - len(before), most))
        names = dict.fromkeys(["adamw", *(ask.configuration.optimizer for ask in before)])
        asks: list[Ask] = []
        for i, name in enumerate(names):
            share = count // len(names) + (i < count % len(names))
            if share > 0:
                rich = max(share, self._expected(state) // len(names))
                new = suggest(name, share, 0, [], [], rich, state.spec.search, state.spec.seed, state.generation)
                asks += [Ask(configuration, PROPOSED[0], 0) for configuration in new]
        return asks

    def _promotions(self, state: State) -> list[Ask]:
        asks, left = [], state.purse.steps
        for rung in range(state.top - 1, -1, -1):
            taken = {o.trial.number for o in state.found if o.rung > rung}
            taken |= {trial.number for trial, r in state.pending if r > rung}
            for outcome in rungs.promoted(state.found, rung, taken):
                left -= state.horizons[rung + 1]
                if left < 0:
                    break
                asks.append(Ask(outcome.trial.configuration, outcome.trial.origin, rung + 1, outcome.trial))
        return asks

    def _new_trials(self, state: State, steps: float) -> list[Ask]:
        """Up to ``state.size`` new trials that the budget allows, with the promotions that will follow from them."""
        # Two generations are on their way at a time: neither may take what the other, or a slower hour, needs.
        count = int(min(state.size, state.purse.trials, max(0.0, MOST_AT_ONCE * steps / _price(state))))
        # A handful at the end would cost more in waiting for each other than it brings.
        if count <= 0 or (math.isfinite(steps) and count < state.size // SMALLEST_SHARE):
            return []
        asks = self._edges(state, count)
        asks += self._scaled(state, count - len(asks))
        return asks + self._proposals(state, asks, count - len(asks))

    def _edges(self, state: State, count: int) -> list[Ask]:
        """Rates beyond the edge at which an optimizer's best lies, AdamW first, then the best rivals; half of a generation."""
        asks: list[Ask] = []
        asked = [trial.configuration for trial in state.asked]
        known = {name: best_of(state.found, name) for name in _entered(state) if name != "adamw"}
        ordered = sorted((-o.rung, *o.rank, name) for name, o in known.items() if o is not None)
        for name in ["adamw", *(str(row[-1]) for row in ordered)]:
            if self._edge_pending(state, name):
                continue
            rung = max(0, state.top - 1) if name == "adamw" else 0
            seen = [o for o in state.found if o.optimizer == name and o.rung >= rung]
            beyond = EDGE_BASELINE if name == "adamw" else EDGE_RIVAL
            asks += [Ask(c, "edge", rung) for c in beyond_edge(name, seen, asked, state.spec.search, beyond)]
        return asks[: min(state.purse.trials, max(EDGE_BASELINE, count // 2))]

    def _edge_pending(self, state: State, name: str) -> bool:
        return any(t.origin == "edge" and t.configuration.optimizer == name for t, _ in state.pending)

    def _scaled(self, state: State, count: int) -> list[Ask]:
        """Every rival once at rates scaled from AdamW's best, the middle ones first."""
        baseline = best_of(state.found, "adamw")
        if baseline is None or not baseline.alive or baseline.lr is None or count <= 0:
            return []
        trials = state.asked
        done = Counter(t.configuration.optimizer for t in trials if t.origin == "scaled")
        asked = {identity(t.configuration) for t in trials}
        found = {
            name: scaled(name, baseline.lr, state.spec.search)[done[name] :]
            for name in _entered(state)
            if name != "adamw"
        }
        ordered: list[Configuration] = []
        for place in range(max(map(len, found.values()), default=0)):
            ordered += [options[place] for options in found.values() if place < len(options)]
        fresh = [c for c in ordered if identity(c) not in asked]
        return [Ask(c, "scaled", 0) for c in fresh[:count]]

    def _proposals(self, state: State, before: Sequence[Ask], count: int) -> list[Ask]:
        if count <= 0:
            return []
        spec, trials = state.spec, state.asked
        spent = Counter(t.configuration.optimizer for t in trials) + Counter(a.configuration.optimizer for a in before)
        proposed = Counter(t.configuration.optimizer for t in trials if t.origin in PROPOSED)
        asks: list[Ask] = []
        names = _entered(state)
        for name, share in slots(names, state.found, proposed, count).items():
            seen = [o for o in state.found if o.optimizer == name]
            known = {o.trial.number for o in seen}
            pending = [t for t, _ in state.pending if t.configuration.optimizer == name and t.number not in known]
            rich = max(spent[name] + share, self._expected(state) // len(names))
            modelled = max(1, round(share * min(1.0, MODELLED / count)))
            new = suggest(name, share, modelled, seen, pending, rich, spec.search, spec.seed, state.generation)
            origin = PROPOSED[len(known) >= STARTUP_TRIALS]
            asks += [Ask(configuration, origin, 0) for configuration in new]
        return asks

    def _expected(self, state: State) -> int:
        """Trials that the search will have in all."""
        price = state.horizons[0] + (rungs.KEEP_FRACTION * state.horizons[1] if state.top else 0)
        return len(state.asked) + int(min(state.purse.trials, max(0.0, state.purse.steps / price)))


def _price(state: State) -> float:
    """Trial-steps of a new trial with the share of promotions that follows from it."""
    price, share = 0.0, 1.0
    for horizon in state.horizons:
        price, share = price + share * horizon, share * rungs.KEEP_FRACTION
    return price


def _entered(state: State) -> list[str]:
    """The optimizers that were tried at all, AdamW first."""
    asked = {trial.configuration.optimizer for trial in state.asked}
    return [name for name in state.names if name in asked]
