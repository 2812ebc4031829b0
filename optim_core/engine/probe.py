"""Stage 0 of a study: does it train at all, how fast, how many trials fit? Seconds, before any budget is spent."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version

from optim_core.engine.forms import ALONE, Measured, fastest_form, step_seconds
from optim_core.engine.loop import device_name
from optim_core.engine.memory import max_pack_size
from optim_core.engine.result import PackTooLarge, too_large
from optim_core.spec.errors import TrainingError, WhichoptError
from optim_core.spec.trial import ProbeReport, UnitResult
from optim_core.tasks.build import Problem

PACK = 16
SHARED = "stacked layers: trials share each forward and backward"
# Seconds of timed steps for a mixed pack, and for each optimizer alone.
PATIENCE_S = 0.1


def probe(problem: Problem) -> UnitResult:
    """Train every included optimizer a few steps at its defaults; measure step times, choose the form and the pack size.

    The form goes into the report, and from there into every unit, so what follows is repeatable. Raises TrainingError when
    the model cannot take a step on its data.
    """
    started = time.monotonic()
    names = problem.spec.search.included()
    try:
        measured, largest = _admitted(problem)
        size = min(PACK, largest)
        pack = [names[i % len(names)] for i in range(size)]
        packed = step_seconds(problem, pack, measured.form, PATIENCE_S)
        each = {name: step_seconds(problem, [name], ALONE, PATIENCE_S / 4) for name in names}
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
        train_rows=len(problem.train.y),
        validation_rows=len(problem.validation.y),
        test_rows=len(problem.test.y),
        data_hash=problem.data_hash,
        data_report=problem.data_report,
        pack_step_s=min(packed),
        probe_pack_size=size,
        max_pack_size=largest,
        engine=measured.form.engine,
        engine_reason=_reason(problem, measured),
        device=device_name(problem.device),
        versions=versions(),
        optimizer_step_s={name: min(times) for name, times in each.items()},
        form=measured.form,
        speedup=measured.alone_s / measured.trial_step_s,
    )
    seconds = time.monotonic() - started
    # How many steps were timed depends on the machine; a study's cost in steps does not.
    return UnitResult(
        trials=[], seconds=seconds, train_steps=0, device=report.device, engine=report.engine, probe=report
    )


def _admitted(problem: Problem) -> tuple[Measured, int]:
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


def _reason(problem: Problem, measured: Measured) -> str:
    """Why this engine, for the answer. No measured number: two runs of one study give one answer."""
    batchable, reason = problem.batchable
    if not batchable:
        return reason
    if measured.form.engine == "sequential":
        return "one trial after the other was faster than any stacked form"
    return "vectorised: all trials of a part share each step" if measured.form.vectorise else SHARED


def versions() -> dict[str, str]:
    """Versions of everything that a score depends on."""
    found = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "optuna")}
    return {"python": platform.python_version(), "whichopt": version("whichopt"), **found}
