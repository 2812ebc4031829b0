"""What a study has tried, read from its view. Independent of the order in which units were stored or finished."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from optim_core.recommend.external import external_report
from optim_core.spec.remembered import remembered
from optim_core.spec.states import UNIT_ENDED
from optim_core.spec.trial import ProbeReport, StudyView, TrialParams, TrialResult, UnitKind, UnitView


@dataclass(frozen=True)
class Outcome:
    """A finished trial at one rung. ``generation``: of the plan that asked for this run."""

    trial: TrialParams
    generation: int
    rung: int
    horizon: int
    result: TrialResult

    @cached_property
    def optimizer(self) -> str:
        return self.trial.configuration.optimizer

    @cached_property
    def rank(self) -> tuple[float, int]:
        """Sorts best first; the trial's number breaks ties."""
        return self.result.objective, self.trial.number

    @cached_property
    def alive(self) -> bool:
        return self.result.diverged_at_step is None

    @cached_property
    def lr(self) -> float | None:
        """The learning rate; None for a method without one."""
        value = self.trial.configuration.hyperparameters.get("lr")
        return None if value is None else float(value)


def outcomes(view: StudyView, kind: UnitKind, before: int | None = None) -> list[Outcome]:
    """All results of units of ``kind`` that nobody left out, by rung and trial number; of generations below ``before`` only,
    when given.
    """
    found: list[Outcome] = []
    for unit in view.units:
        if unit.spec.kind != kind or unit.result is None or (before is not None and unit.spec.generation >= before):
            continue
        found += (
            [o for o in _outcomes(unit) if o.trial.number not in view.excluded] if view.excluded else _outcomes(unit)
        )
    return sorted(found, key=lambda o: (o.rung, o.trial.number))


@remembered
def _outcomes(unit: UnitView) -> list[Outcome]:
    """All results of an ended unit."""
    assert unit.result is not None
    spec, by_number = unit.spec, {trial.number: trial for trial in unit.spec.trials}
    return [
        Outcome(by_number[result.number], spec.generation, spec.rung, spec.horizon, result)
        for result in unit.result.trials
    ]


def excluded_seeds(view: StudyView) -> frozenset[int]:
    """Seeds of confirmation runs that a person left out. All configurations are compared on the same seeds, so that each of
    these is left out of all.
    """
    trials = (t for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials)
    return frozenset(trial.seed for trial in trials if trial.number in view.excluded)


def probe_unit(view: StudyView) -> UnitView | None:
    """The finished probe, if there is one."""
    return next((u for u in view.units if u.spec.kind == "probe" and u.result is not None), None)


def known_probe(view: StudyView) -> ProbeReport | None:
    """What the probe found, or what is known of a loop of the person's own; None before there is anything."""
    if view.spec.external:
        return external_report(view)
    done = probe_unit(view)
    return None if done is None or done.result is None else done.result.probe


def probe_report(view: StudyView) -> ProbeReport:
    """As ``known_probe``. Raises StopIteration before there is one."""
    found = known_probe(view)
    if found is None:
        raise StopIteration("nothing is known yet")
    return found


def ended(view: StudyView, kinds: Sequence[UnitKind], before: int | None = None) -> bool:
    """Whether no unit of these kinds (of generations below ``before``) waits or runs."""
    return all(
        u.state in UNIT_ENDED
        for u in view.units
        if u.spec.kind in kinds and (before is None or u.spec.generation < before)
    )


def searched_spread(view: StudyView) -> float | None:
    """What the middle half of the search's trials differ by in the metric, on the rung that most of them survived; None of
    fewer than four.
    """
    by_rung: dict[int, list[float]] = {}
    for outcome in outcomes(view, "train"):
        if outcome.alive and outcome.result.metric is not None:
            by_rung.setdefault(outcome.rung, []).append(outcome.result.metric)
    values = max(by_rung.values(), key=len, default=[])
    if len(values) < 4:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def highest(found: Iterable[Outcome]) -> dict[int, Outcome]:
    """Trial number → its outcome at the highest rung that it reached."""
    best: dict[int, Outcome] = {}
    for outcome in found:
        known = best.get(outcome.trial.number)
        if known is None or outcome.rung > known.rung:
            best[outcome.trial.number] = outcome
    return best


def best_of(found: Iterable[Outcome], optimizer: str | None = None) -> Outcome | None:
    """The best outcome (of one optimizer) at the highest rung on which any of its trials survived."""
    mine = [o for o in found if optimizer is None or o.optimizer == optimizer]
    top = max((o.rung for o in mine if o.alive), default=max((o.rung for o in mine), default=0))
    return min((o for o in mine if o.rung == top), key=lambda o: o.rank, default=None)
