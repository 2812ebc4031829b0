"""Fits models of another kind for comparison: a unit of work without trials."""

from __future__ import annotations

import logging
import time

from optim_core.engine.confirmed import packed
from optim_core.engine.loop import device_name
from optim_core.spec.trial import ReferenceRows, UnitResult, UnitSpec
from optim_core.tasks.build import Problem
from optim_core.tasks.reference import reference_rows
from optim_core.tasks.task import Task

log = logging.getLogger("whichopt.engine")


def run_reference(problem: Task, unit: UnitSpec) -> UnitResult:
    """What ``unit.references`` score on the rows of the task's fold. One that cannot be fitted is left out: an answer about
    optimizers does not hang on it.
    """
    started, found = time.monotonic(), []
    assert isinstance(problem, Problem)
    for name in unit.references:
        try:
            trained, rows = reference_rows(problem, name)
        except (ValueError, ArithmeticError, MemoryError) as error:
            log.warning("no reference %s: %s", name, error)
            continue
        found.append(ReferenceRows(name=name, train_rows=trained, rows={s: packed(own) for s, own in rows.items()}))
    device, seconds = device_name(problem.device), time.monotonic() - started
    return UnitResult(trials=[], references=found, seconds=seconds, train_steps=0, device=device, engine="scikit-learn")
