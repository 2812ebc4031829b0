"""``whichopt inspect`` on this machine: what a study would see, and what its budget buys, from a probe that is not stored."""

from __future__ import annotations

from typing import Any

from optim_core.spec.problem import StudySpec
from optim_core.spec.states import UnitState
from optim_core.spec.trial import UnitResult, UnitSpec, UnitView
from service.operations.inspection import Inspection, ModelView, inspect, sorted_out
from service.operations.present import model_label

# Numbers among the training rows up to which a probe takes a few seconds.
MOST_MEASURED = 2_000_000


def look(spec: StudySpec, roots: list[str] | None, measure: bool | None) -> Inspection:
    """``measure``: None measures where that takes seconds only. Code of the person's own is run: nothing else knows its data.

    Raises what reading, building and probing raise.
    """
    found = None if spec.own else inspect(spec, roots)
    if found is not None and not (_small(found) if measure is None else measure):
        return found
    result = _probe(spec, roots)
    expected = _forecast(spec, result)
    return (found or _own(spec, result)).model_copy(update={"forecast": expected})


def _small(found: Inspection) -> bool:
    numbers = found.rows["train"]
    for size in found.shape or ():
        numbers *= size
    return numbers <= MOST_MEASURED


def _probe(spec: StudySpec, roots: list[str] | None) -> UnitResult:
    from optim_core import engine
    from workers.training import default_device, source_of

    return engine.probe(source_of(spec, default_device(), roots).problem())


def _own(spec: StudySpec, result: UnitResult) -> Inspection:
    probe = result.probe
    assert probe is not None
    noticed = sorted_out(probe.data_report)
    return Inspection(
        task=probe.task,
        metric=probe.metric,
        direction=probe.direction,
        target=None,
        classes=None,
        rows={"train": probe.train_rows, "validation": probe.validation_rows, "test": probe.test_rows},
        folds=probe.folds or 1,
        columns=[],
        shape=None,
        batch_size=spec.training.batch_size,
        steps=probe.full_horizon,
        model=ModelView(name=model_label(spec), parameters=probe.parameter_count, layers=probe.network),
        warnings=noticed["warnings"],
        report=noticed["report"],
    )


def _forecast(spec: StudySpec, result: UnitResult) -> dict[str, Any] | None:
    from optim_core.search import forecast
    from optim_core.spec.trial import StudyView
    from workers.local import usual_workers

    unit = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])
    probed = UnitView(spec=unit, state=UnitState.DONE, result=result)
    found = forecast(
        StudyView(
            study_id="inspected", spec=spec, units=[probed], elapsed_s=result.seconds, device_s=result.seconds,
            workers=usual_workers(),
        )
    )  # fmt: skip
    return None if found is None else found.document()
