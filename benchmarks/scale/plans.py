"""What a plan costs for each new trial, the longer a study gets: everything that a planner's turn works out, no database."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.scale.devices import Task, task
from optim_core.recommend import standing
from optim_core.search import Plan, forecast, plan
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitView

MARKS = (100, 1_000, 10_000, 100_000)


def cost(most: int = MARKS[-1], workers: int = 64) -> dict[str, Any]:
    """Milliseconds of a processor for each new trial, of the plan alone and of a whole turn, by trials so far.

    Turns that decide nothing, since units still run, count to the plan that follows: one for each unit of a generation.
    """
    asked = task(trials=most)
    units: list[UnitView] = []
    rows: list[dict[str, float]] = []
    number = 0
    while number < most:
        view = _view(asked, units, workers)
        begun = time.process_time()
        decided = plan(view)
        planned = time.process_time() - begun
        begun = time.process_time()
        forecast(view)
        standing(view)
        beside = time.process_time() - begun
        if not isinstance(decided, Plan) or decided.units[0].kind == "screen":
            break
        new = sum(len(unit.trials) for unit in decided.units)
        number += new
        queued = [UnitView(spec=unit, state=UnitState.QUEUED) for unit in decided.units]
        begun = time.process_time()
        plan(_view(asked, [*units, *queued], workers))
        idle = time.process_time() - begun
        units += [
            UnitView(spec=unit, state=UnitState.DONE, result=asked.answer(unit, asked.model.seconds(unit)))
            for unit in decided.units
        ]
        if new:
            rows.append(
                {"trials": number, "new": new, "plan_s": planned, "beside_s": beside, "idle_s": idle,
                 "units": len(decided.units)}
            )  # fmt: skip
    return {"workers": workers, "by_trials": [_around(rows, mark) for mark in MARKS if mark <= most],
            "load_average": os.getloadavg()[0]}  # fmt: skip


def _around(rows: list[dict[str, float]], mark: int) -> dict[str, float]:
    """Of the plans that brought a study from a third of ``mark`` trials to ``mark``, and a bit where there are few."""
    mine = [r for r in rows if mark / 3 <= r["trials"] <= mark * 1.05] or [rows[0]]
    new = sum(r["new"] for r in mine)
    return {
        "trials": mark,
        "plan_ms": round(1000 * sum(r["plan_s"] for r in mine) / new, 3),
        "turn_ms": round(1000 * sum(r["plan_s"] + r["beside_s"] for r in mine) / new, 3),
        # A turn for each unit that ends: what each of these has to read.
        "with_idle_turns_ms": round(
            1000 * sum(r["plan_s"] + r["beside_s"] + r["units"] * (r["idle_s"] + r["beside_s"]) for r in mine) / new, 3
        ),
        "new_a_plan": round(new / len(mine)),
    }


def _view(asked: Task, units: list[UnitView], workers: int) -> StudyView:
    return StudyView(
        study_id="s", spec=asked.spec, units=list(units), elapsed_s=1.0, device_s=1.0, workers=workers
    )  # fmt: skip
