"""Tasks on which searches are compared: worlds of the oracle, and a real table."""

from __future__ import annotations

import math
from typing import Protocol

from benchmarks import evidence_oracle as oracle
from benchmarks.evidence_play import Trainer
from benchmarks.evidence_tables import spec_of
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import WORST_VALUE, ProbeReport, TrialParams, TrialResult, UnitSpec

TABLE, TABLE_STEPS = "digits", 960
# How many margins rivals are ahead of AdamW.
_AHEAD = (2.0, 0.0, -2.0, -5.0)


class Runs(Protocol):
    """One task on which searches run. ``train``: a unit's trials with their schedule rescaled to its horizon, or full runs
    looked at when they are so far (``midway``). ``full``: what the trials of units are worth at the full horizon, smaller is
    better.
    """

    report: ProbeReport

    def spec(self, steps: int) -> StudySpec: ...

    def train(self, unit: UnitSpec, midway: bool) -> list[TrialResult]: ...

    def full(self, units: list[UnitSpec]) -> dict[int, float]: ...


class OracleRuns:
    """A world of its own for each seed."""

    def __init__(self, seed: int) -> None:
        self.world, self.report = oracle.draw_world(seed, _AHEAD, oracle.USUAL), oracle.report()

    def spec(self, steps: int) -> StudySpec:
        return oracle.spec_of(self.world.seed, train_steps=steps)

    def train(self, unit: UnitSpec, midway: bool) -> list[TrialResult]:
        return [self.world.run(trial, unit, midway) for trial in unit.trials]

    def full(self, units: list[UnitSpec]) -> dict[int, float]:
        losses = {t.number: self.world.loss(t.configuration) for unit in units for t in unit.trials}
        return {number: WORST_VALUE if math.isnan(loss) else loss for number, loss in losses.items()}


class TableRuns:
    """A real table; the search's seed is that of every run, so a configuration has one full run."""

    def __init__(self, seed: int) -> None:
        base = spec_of(TABLE, seed, 1)
        self._spec = base.model_copy(update={"training": base.training.model_copy(update={"steps": TABLE_STEPS})})
        self._trainer = Trainer(self._spec)
        self.report = self._trainer.probe()
        self._known: dict[str, TrialResult] = {}

    def spec(self, steps: int) -> StudySpec:
        return self._spec.model_copy(update={"budget": self._spec.budget.model_copy(
            update={"trials": None, "train_steps": steps}
        )})  # fmt: skip

    def train(self, unit: UnitSpec, midway: bool) -> list[TrialResult]:
        if not midway and unit.horizon < TABLE_STEPS:
            return self._trainer(unit).trials
        self._complete(unit)
        runs = [self._known[_key(trial)] for trial in unit.trials]
        return [
            self._seen(run, unit.horizon).model_copy(update={"number": trial.number})
            for run, trial in zip(runs, unit.trials, strict=True)
        ]

    def full(self, units: list[UnitSpec]) -> dict[int, float]:
        for unit in units:
            self._complete(unit)
        return {t.number: self._known[_key(t)].objective for unit in units for t in unit.trials}

    def _complete(self, unit: UnitSpec) -> None:
        """Train in full what has not been."""
        fresh = {_key(t): t for t in unit.trials}
        trials = [trial for key, trial in fresh.items() if key not in self._known]
        if trials:
            whole = unit.model_copy(update={"trials": trials, "horizon": TABLE_STEPS})
            for trial, run in zip(trials, self._trainer(whole).trials, strict=True):
                self._known[_key(trial)] = run

    def _seen(self, run: TrialResult, horizon: int) -> TrialResult:
        """A full run at its first evaluation at or after ``horizon``: a little later than is paid for."""
        if horizon >= TABLE_STEPS:
            return run
        if run.diverged_at_step is not None and run.diverged_at_step <= horizon:
            return run
        point = next((p for p in run.curve if p.step >= horizon), None)
        if point is None or point.value is None or point.loss is None:
            return run
        objective = self._trainer.problem().objective(point.value, point.loss)
        return run.model_copy(update={"objective": objective, "metric": point.value, "loss": point.loss,
                                      "diverged_at_step": None})  # fmt: skip


def _key(trial: TrialParams) -> str:
    return trial.configuration.model_dump_json()
