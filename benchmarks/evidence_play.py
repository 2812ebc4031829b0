"""Whole studies in this process: planner and engine, or planner and anything else that answers for the engine; no database."""

from __future__ import annotations

from collections.abc import Callable

from optim_core.engine import probe, run_pack
from optim_core.search import Finish, Plan, plan
from optim_core.search.strategy import Strategy
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import UnitState
from optim_core.spec.trial import Form, ProbeReport, StudyView, UnitKind, UnitResult, UnitSpec, UnitView
from optim_core.tasks import Problem, ProblemSource

# What trains a unit.
Answer = Callable[[UnitSpec], UnitResult]
# Fixed, so that a study repeats exactly; small networks hardly care.
FORM = Form(engine="batched", width=16)


class StudyFailed(Exception):
    """A study ended without anything to recommend."""


def play(spec: StudySpec, report: ProbeReport, answer: Answer) -> StudyView:
    """A study from its probe to its end. Raises StudyFailed."""
    return _play(spec, report, answer, None, ("train", "screen", "confirm", "reference"))


def search(spec: StudySpec, report: ProbeReport, answer: Answer, strategy: Strategy) -> StudyView:
    """The search of a study by any strategy, without what follows it."""
    return _play(spec, report, answer, strategy, ("train",))


def _play(
    spec: StudySpec, report: ProbeReport, answer: Answer, strategy: Strategy | None, kinds: tuple[UnitKind, ...]
) -> StudyView:
    first = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])
    measured = UnitResult(
        trials=[], seconds=1.0, train_steps=0, device=report.device, engine=report.engine, probe=report
    )
    units = [UnitView(spec=first, state=UnitState.DONE, result=measured)]
    while True:
        # Time stands still: budgets here are trials or steps.
        view = StudyView(study_id="benchmark", spec=spec, units=units, elapsed_s=1.0, device_s=1.0)
        step = plan(view, strategy)
        if isinstance(step, Finish):
            if step.failure is not None:
                raise StudyFailed(": ".join(step.failure))
            return view
        assert isinstance(step, Plan)
        if step.units[0].kind not in kinds:
            return view
        units = [*units, *(UnitView(spec=unit, state=UnitState.DONE, result=answer(unit)) for unit in step.units)]


class Trainer:
    """Trains the units of one study on its data, read once; answers for ``play``."""

    def __init__(self, spec: StudySpec) -> None:
        self._source = ProblemSource(spec)
        self._folds: dict[int | None, Problem] = {}

    def problem(self, fold: int | None = None) -> Problem:
        if fold not in self._folds:
            self._folds[fold] = self._source.problem(fold)
        return self._folds[fold]

    def probe(self) -> ProbeReport:
        """What a study's probe finds out, with the form fixed."""
        report = probe(self.problem()).probe
        assert report is not None
        return report.model_copy(update={"form": FORM, "engine": FORM.engine, "engine_reason": "fixed"})

    def __call__(self, unit: UnitSpec) -> UnitResult:
        if unit.kind == "reference":
            # What other models reach is no part of a verdict.
            return UnitResult(trials=[], seconds=0.0, train_steps=0, device="cpu", engine="none")
        return run_pack(self.problem(unit.fold), unit)
