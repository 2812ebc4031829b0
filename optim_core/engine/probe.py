"""Stage 0 of a study: does it train at all, how fast, how many trials fit? Seconds, before any budget is spent."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version

from optim_core.engine.forms import Measured, default_form, fastest_form, pack_seconds
from optim_core.engine.kinds import judge_of, what_is_shared
from optim_core.engine.loop import device_name
from optim_core.engine.memory import max_pack_size
from optim_core.engine.optimizer_times import optimizer_seconds
from optim_core.engine.result import PackTooLarge, too_large
from optim_core.spec.errors import TrainingError, WhichoptError
from optim_core.spec.trial import Form, ProbeReport, UnitResult
from optim_core.tasks.build import Problem
from optim_core.tasks.layers_line import layers_line
from optim_core.tasks.reference import reference_seconds
from optim_core.tasks.task import Task

PACK = 16
# A budget of fewer seconds takes the form that is usually the fastest, and times no optimizer.
HURRIED_S = 10.0


def probe(problem: Task) -> UnitResult:
    """Train every included optimizer a few steps at its defaults; measure step times, choose the form and the pack size.

    The form goes into the report, and from there into every unit, so what follows is repeatable. Raises TrainingError when
    the model cannot take a step on its data.
    """
    started = time.monotonic()
    names = problem.spec.search.included()
    try:
        # Measuring forms and optimizers takes up to a second: too much of a budget of a few.
        hurried = problem.spec.budget.shortest_s < HURRIED_S
        measured, largest = (None, max_pack_size(problem)) if hurried else _admitted(problem)
        form = default_form(problem) if measured is None else measured.form
        size = min(PACK, largest)
        pack = [names[i % len(names)] for i in range(size)]
        pack_step_s = pack_seconds(problem, pack, form)
        each = {} if hurried else optimizer_seconds(problem, names, at_once=largest)
    except WhichoptError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"the model cannot train on this data: {first_line}", pointer="/model") from error
    report = ProbeReport(
        task=problem.task,  # type: ignore[arg-type]
        metric=problem.metric,
        direction=problem.direction,  # type: ignore[arg-type]
        full_horizon=problem.full_horizon,
        steps_per_epoch=problem.steps_per_epoch,
        parameter_count=problem.parameter_count,
        train_rows=problem.rows["train"],
        validation_rows=problem.rows["validation"],
        test_rows=problem.rows["test"],
        data_hash=problem.data_hash,
        data_report=problem.data_report,
        pack_step_s=pack_step_s,
        probe_pack_size=size,
        max_pack_size=largest,
        engine=form.engine,
        engine_reason=_reason(problem, form),
        device=device_name(problem.device),
        versions=versions(),
        optimizer_step_s=each,
        form=form,
        speedup=None if measured is None else measured.alone_s / measured.trial_step_s,
        best_width=min(form.width, largest) if measured is None else measured.best_width,
        minority=judge_of(problem).minority,
        folds=problem.folds,
        batch_size=problem.batch_size,
        network=layers_line(problem.make_model(0)),
        reference_s=reference_seconds(problem) if isinstance(problem, Problem) else None,
    )
    seconds = time.monotonic() - started
    # How many steps were timed depends on the machine; a study's cost in steps does not.
    return UnitResult(
        trials=[], seconds=seconds, train_steps=0, device=report.device, engine=report.engine, probe=report
    )


def _admitted(problem: Task) -> tuple[Measured, int]:
    """The fastest form, and how many trials a pack may have: what should fit, halved until it does."""
    largest = max_pack_size(problem)
    while True:
        try:
            with too_large(largest):
                return fastest_form(problem, largest), largest
        except PackTooLarge:
            if largest == 1:
                raise
            largest //= 2


def _reason(problem: Task, form: Form) -> str:
    """Why this engine, for the answer. No measured number: two runs of one study give one answer."""
    batchable, reason = problem.batchable
    if not batchable:
        return reason
    if form.engine == "sequential":
        return "one trial after the other was faster than any stacked form"
    return "vectorised: all trials of a part share each step" if form.vectorise else what_is_shared(problem, form)


def versions() -> dict[str, str]:
    """Versions of everything that a score depends on."""
    found = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "optuna")}
    return {"python": platform.python_version(), "whichopt": version("whichopt"), **found}
