"""What a study has tried, read from its view. Independent of the order in which units were stored or finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    @property
    def optimizer(self) -> str:
        return self.trial.configuration.optimizer

    @property
    def rank(self) -> tuple[float, int]:
        """Sorts best first; the trial's number breaks ties."""
        return self.result.objective, self.trial.number

    @property
    def alive(self) -> bool:
        return self.result.diverged_at_step is None

    @property
    def lr(self) -> float | None:
        """The learning rate; None for a method without one."""
        value = self.trial.configuration.hyperparameters.get("lr")
        return None if value is None else float(value)


def outcomes(view: StudyView, kind: UnitKind, before: int | None = None) -> list[Outcome]:
    """All results of units of ``kind``, by rung and trial number; of generations below ``before`` only, when given."""
    found = []
    for unit in view.units:
        if unit.spec.kind != kind or unit.result is None or (before is not None and unit.spec.generation >= before):
            continue
        by_number = {trial.number: trial for trial in unit.spec.trials}
        found += [
            Outcome(by_number[result.number], unit.spec.generation, unit.spec.rung, unit.spec.horizon, result)
            for result in unit.result.trials
        ]
    return sorted(found, key=lambda o: (o.rung, o.trial.number))


def probe_unit(view: StudyView) -> UnitView | None:
    """The finished probe, if there is one."""
    return next((u for u in view.units if u.spec.kind == "probe" and u.result is not None), None)


def probe_report(view: StudyView) -> ProbeReport:
    """What the probe found. Raises StopIteration before there is one."""
    return next(u.result.probe for u in view.units if u.result is not None and u.result.probe is not None)


def ended(view: StudyView, kinds: Sequence[UnitKind], before: int | None = None) -> bool:
    """Whether no unit of these kinds (of generations below ``before``) waits or runs."""
    return all(
        u.state in UNIT_ENDED
        for u in view.units
        if u.spec.kind in kinds and (before is None or u.spec.generation < before)
    )


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
