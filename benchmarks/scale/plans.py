"""What a plan costs for each new trial, the longer a study gets: everything that a planner's turn works out, no database."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.scale.devices import Task, task
from optim_core.recommend import standing
from optim_core.search import Plan, forecast, plan
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitView

MARKS = (100, 1_000, 10_000, 100_000)


def cost(marks: Sequence[int] = MARKS, workers: int = 64) -> dict[str, Any]:
    """Milliseconds of a processor for each new trial in studies of so many trials."""
    by_trials = [_study(mark, workers) for mark in marks]
    return {"workers": workers, "by_trials": by_trials, "load_average": round(os.getloadavg()[0], 2)}


def _study(most: int, workers: int) -> dict[str, float]:
    """Of a study of so many trials, from a third of them on: of the plan alone, of a whole turn, and with the turns that decide
    nothing since units still run, one for each unit of a generation.
    """
    asked = task(trials=most)
    units: list[UnitView] = []
    new = plans = 0
    plan_s = turn_s = idle_s = 0.0
    number = 0
    while True:
        begun = time.process_time()
        decided = plan(_view(asked, units, workers))
        planned = time.process_time() - begun
        begun = time.process_time()
        forecast(_view(asked, units, workers))
        standing(_view(asked, units, workers))
        beside = time.process_time() - begun
        if not isinstance(decided, Plan) or decided.units[0].kind == "screen":
            break
        queued = [UnitView(spec=unit, state=UnitState.QUEUED) for unit in decided.units]
        begun = time.process_time()
        plan(_view(asked, [*units, *queued], workers))
        idle = time.process_time() - begun
        fresh = sum(len(unit.trials) for unit in decided.units if not unit.rung)
        number += fresh
        if number >= most / 3:
            new, plans, plan_s, turn_s = new + fresh, plans + 1, plan_s + planned, turn_s + planned + beside
            idle_s += len(decided.units) * (idle + beside)
        units += [
            UnitView(spec=unit, state=UnitState.DONE, result=asked.answer(unit, asked.model.seconds(unit)))
            for unit in decided.units
        ]
    each = 1000 / max(1, new)
    return {
        "trials": most, "plan_ms": round(plan_s * each, 3), "turn_ms": round(turn_s * each, 3),
        "with_idle_turns_ms": round((turn_s + idle_s) * each, 3), "new_a_plan": round(new / max(1, plans)),
    }  # fmt: skip


def _view(asked: Task, units: list[UnitView], workers: int) -> StudyView:
    return StudyView(
        study_id="s", spec=asked.spec, units=list(units), elapsed_s=1.0, device_s=1.0, workers=workers
    )  # fmt: skip
