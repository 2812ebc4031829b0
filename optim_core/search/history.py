"""What a study has tried, read from its view. Independent of the order in which units were stored or finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optim_core.spec.trial import StudyView, TrialParams, TrialResult, UnitView


@dataclass(frozen=True)
class Outcome:
    """A finished trial at one rung."""

    trial: TrialParams
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


def outcomes(view: StudyView, kind: str) -> list[Outcome]:
    """All results of units of ``kind``, by rung and trial number."""
    found = []
    for unit in view.units:
        if unit.spec.kind == kind and unit.result is not None:
            by_number = {trial.number: trial for trial in unit.spec.trials}
            found += [
                Outcome(by_number[result.number], unit.spec.rung, unit.spec.horizon, result)
                for result in unit.result.trials
            ]
    return sorted(found, key=lambda o: (o.rung, o.trial.number))


def probe_unit(view: StudyView) -> UnitView | None:
    """The finished probe, if there is one."""
    return next((u for u in view.units if u.spec.kind == "probe" and u.result is not None), None)


def best_of(found: Sequence[Outcome], optimizer: str | None = None) -> Outcome | None:
    """The best outcome (of one optimizer) at the highest rung that it reached."""
    mine = [o for o in found if optimizer is None or o.optimizer == optimizer]
    if not mine:
        return None
    top = max(o.rung for o in mine)
    return min((o for o in mine if o.rung == top), key=lambda o: o.rank)
