"""What to train next: a pure function of the study's view.

Planning is synchronous by generation: nothing new is proposed while a unit is open. So the plan does not depend on which
worker finishes first, a lost worker changes nothing, and with a budget in trials the whole study repeats exactly.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from optim_core.search.budget import planned_trials
from optim_core.search.confirm import confirmation_units
from optim_core.search.history import best_of, outcomes, probe_unit
from optim_core.search.rungs import KEEP_FRACTION, horizons, promoted
from optim_core.search.suggest import suggest
from optim_core.spec.keys import derive_seed
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.space import configuration_from, default_configuration, search_space
from optim_core.spec.states import UNIT_ENDED, UnitState
from optim_core.spec.trial import Configuration, ProbeReport, StudyView, TrialParams, UnitSpec

# Learning rates of the portfolio, as multiples of the optimizer's default, in the order in which they are tried.
SWEEP = (0.1, 10.0, 0.3, 3.0)
# From this many trials on, a generation is cut into two packs at least, so that two workers can share it.
SPLIT_FROM = 8


@dataclass(frozen=True)
class Plan:
    """Units to queue now; units that exist already (by key) are not made twice."""

    units: list[UnitSpec]
    note: str


@dataclass(frozen=True)
class Wait:
    """Open units have to end first."""


@dataclass(frozen=True)
class Finish:
    """The evidence is in. ``failure`` is a (code, message) when there is nothing to recommend."""

    failure: tuple[str, str] | None = field(default=None)


def plan(view: StudyView) -> Plan | Wait | Finish:
    """The next step of a study. Deterministic, independent of the order of ``view.units``."""
    if any(unit.state not in UNIT_ENDED for unit in view.units):
        return Wait()
    if any(unit.state == UnitState.FAILED for unit in view.units):
        return Finish(("unit_failed", "a unit of work failed for good"))
    done = probe_unit(view)
    if done is None:
        probe = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])
        return Plan([probe], "probe")
    assert done.result is not None
    assert done.result.probe is not None
    return _Planner(view, done.result.probe).next()


class _Planner:
    def __init__(self, view: StudyView, probe: ProbeReport) -> None:
        self.view, self.spec, self.probe = view, view.spec, probe
        self.found = outcomes(view, "train")
        self.horizons = horizons(probe.full_horizon)
        self.names = self.spec.search.included()
        self.trials_n = len({o.trial.number for o in self.found})
        self.generation = sum(unit.spec.key.startswith("g") and unit.spec.key.endswith("-0-0") for unit in view.units)
        steps = self.horizons[0] + (KEEP_FRACTION * self.horizons[1] if len(self.horizons) > 1 else 0)
        self.budgeted = planned_trials(view, probe, self.trials_n, steps)

    def next(self) -> Plan | Finish:
        confirmed = confirmation_units(self.view, self.probe, self.found)
        if any(unit.spec.kind == "confirm" for unit in self.view.units):
            return Plan(confirmed, "confirm") if confirmed else Finish(self._failure())
        climbing = self._promotions()
        if climbing:
            return climbing
        left = self.budgeted - self.trials_n
        started = self.trials_n > 0
        if left > 0:
            proposals = self._portfolio() if not started else self._search(left)
            if proposals:
                stage = "search" if started else "portfolio"
                return Plan(self._units(proposals, stage), stage)
        if confirmed:
            return Plan(confirmed, "confirm")
        return Finish(self._failure())

    def _failure(self) -> tuple[str, str] | None:
        best = best_of(self.found)
        if best is None or all(o.result.diverged_at_step is not None for o in self.found):
            return "all_trials_failed", "every configuration diverged; widen the ranges or check the data"
        return None

    def _portfolio(self) -> list[tuple[Configuration, str]]:
        """Defaults of every optimizer, AdamW first, then learning rates around them, as far as the budget goes."""
        search, limit = self.spec.search, self.budgeted
        proposals = [(default_configuration(name, search), "default") for name in self.names]
        spent = limit // 2  # the other half is for the search, which knows what the portfolio found
        for factor in SWEEP:
            for name in self.names:
                if len(proposals) < spent and "lr" in search_space(name, 1, search):
                    rate = float(default_configuration(name, search).hyperparameters["lr"]) * factor
                    row = next(h for h in OPTIMIZERS[name].hyperparameters if h.name == "lr")
                    point = {"lr": min(max(rate, row.low), row.high)}
                    candidate = (configuration_from(name, point, search), "sweep")
                    if candidate[0] not in [c for c, _ in proposals]:
                        proposals.append(candidate)
        return proposals[:limit]

    def _search(self, left: int) -> list[tuple[Configuration, str]]:
        count = min(left, max(len(self.names), self.probe.max_pack_size // 2))
        proposals: list[tuple[Configuration, str]] = []
        for name, share in self._allocation(count).items():
            # Every trial has been on rung 0, so there like is compared with like.
            seen = [o for o in self.found if o.optimizer == name and o.rung == 0]
            rich = max(len(seen) + share, self.budgeted // len(self.names))
            new = suggest(name, share, seen, rich, self.spec.search, self.spec.seed, self.generation)
            proposals += [(configuration, "tpe" if len(seen) >= 6 else "quasi-random") for configuration in new]
        return proposals

    def _allocation(self, count: int) -> dict[str, int]:
        """Slots per optimizer: more to those that may still win, and never fewer in all to AdamW than to any rival.

        Weights halve with each rank of the optimizers' best objectives so far.
        """
        best = {name: best_of(self.found, name) for name in self.names}
        ranked = sorted(self.names, key=lambda n: best[n].rank if (best[n]) else (math.inf, 0))  # type: ignore[union-attr]
        weights = {name: 0.7**position for position, name in enumerate(ranked)}
        spent = Counter(o.optimizer for o in self.found if o.rung == 0)
        slots: Counter[str] = Counter()
        for _ in range(count):
            rival = max((spent[n] + slots[n] for n in self.names if n != "adamw"), default=0)
            if spent["adamw"] + slots["adamw"] <= rival:
                slots["adamw"] += 1
                continue
            # The largest share still owed, in the manner of Sainte-Laguë; ties go to the better-ranked.
            chosen = max(ranked, key=lambda n: (weights[n] / (2 * slots[n] + 1), -ranked.index(n)))
            slots[chosen] += 1
        return {name: slots[name] for name in self.names if slots[name]}

    def _promotions(self) -> Plan | None:
        if len(self.horizons) == 1:
            return None
        climbed = {o.trial.number for o in self.found if o.rung == 1}
        for generation in range(self.generation):
            prefix = f"g{generation}-"
            if any(unit.spec.key.startswith(f"{prefix}1-") for unit in self.view.units):
                continue
            numbers = {t.number for u in self.view.units if u.spec.key.startswith(f"{prefix}0-") for t in u.spec.trials}
            members = [o for o in self.found if o.rung == 0 and o.trial.number in numbers]
            chosen = [o for o in promoted(members, self.found) if o.trial.number not in climbed]
            if chosen:
                trials = [o.trial for o in chosen]
                return Plan(self._packs(trials, generation, 1), "search" if generation else "portfolio")
        return None

    def _units(self, proposals: Sequence[tuple[Configuration, str]], stage: str) -> list[UnitSpec]:
        seed = derive_seed("search", self.spec.seed)
        first = max((t.number for u in self.view.units for t in u.spec.trials), default=-1) + 1
        trials = [
            TrialParams(number=first + i, configuration=c, seed=seed, stage=stage, origin=origin)  # type: ignore[arg-type]
            for i, (c, origin) in enumerate(proposals)
        ]
        return self._packs(trials, self.generation, 0)

    def _packs(self, trials: list[TrialParams], generation: int, rung: int) -> list[UnitSpec]:
        return [
            UnitSpec(
                key=f"g{generation}-{rung}-{i}",
                kind="train",
                rung=rung,
                horizon=self.horizons[rung],
                split="validation",
                trials=pack,
                form=self.probe.form,
            )
            for i, pack in enumerate(packs(trials, self.probe.max_pack_size))
        ]


def packs(trials: list[TrialParams], largest: int) -> list[list[TrialParams]]:
    """Cut trials into even packs, none larger than ``largest``; neighbours share an optimizer, which updates cheaper."""
    ordered = sorted(trials, key=lambda t: (t.configuration.optimizer, t.number))
    count = max(math.ceil(len(ordered) / largest), 2 if len(ordered) >= SPLIT_FROM else 1)
    size, extra = divmod(len(ordered), count)
    cuts = [0]
    for i in range(count):
        cuts.append(cuts[-1] + size + (i < extra))
    return [ordered[a:b] for a, b in itertools.pairwise(cuts) if b > a]
