"""Stage 0 of a study: does it train at all, how fast, how many trials fit? Seconds, before any budget is spent."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

from optim_core.engine.loop import choose, device_name, make_runner
from optim_core.engine.memory import max_pack_size
from optim_core.spec.errors import TrainingError, WhichoptError
from optim_core.spec.keys import derive_seed
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import ProbeReport, TrialParams, UnitResult, UnitSpec
from optim_core.tasks.build import Problem

WARM_STEPS, TIMED_STEPS = 3, 12
PACK = 16


def probe(problem: Problem) -> UnitResult:
    """Train every included optimizer a few steps at its defaults; measure step times and choose engine and pack size.

    Times are reported and feed budgets in seconds; engine and pack size never depend on them, so plans repeat.
    Raises TrainingError when the model cannot take a step on its data.
    """
    started = time.monotonic()
    engine = choose(problem)
    names = problem.spec.search.included()
    largest = max_pack_size(problem)
    size = min(PACK, largest)
    pack = [names[i % len(names)] for i in range(size)]
    pack_step_s = _step_seconds(problem, pack, engine)
    each = {name: _step_seconds(problem, [name], "sequential") for name in names}
    batchable, reason = problem.batchable
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
        pack_step_s=pack_step_s,
        probe_pack_size=size,
        max_pack_size=largest,
        engine=engine,
        engine_reason="all trials of a pack share one forward and backward" if batchable else reason,
        device=device_name(problem.device),
        versions=versions(),
        optimizer_step_s=each,
    )
    steps = (WARM_STEPS + TIMED_STEPS) * (size + len(names))
    seconds = time.monotonic() - started
    return UnitResult(trials=[], seconds=seconds, train_steps=steps, device=report.device, engine=engine, probe=report)


def versions() -> dict[str, str]:
    """Versions of everything that a score depends on."""
    found = {name: version(name) for name in ("torch", "numpy", "scikit-learn", "optuna")}
    return {"python": platform.python_version(), "whichopt": version("whichopt"), **found}


def _step_seconds(problem: Problem, optimizers: Sequence[str], engine: str) -> float:
    """Fastest seconds of a step of a pack of these optimizers: what others do on the machine only ever slows steps down."""
    seed = derive_seed("probe", problem.spec.seed)
    trials = [
        TrialParams(
            number=i,
            configuration=default_configuration(name, problem.spec.search),
            seed=seed,
            stage="portfolio",
            origin="probe",
        )
        for i, name in enumerate(optimizers)
    ]
    horizon = WARM_STEPS + TIMED_STEPS
    unit = UnitSpec(key="probe", kind="probe", rung=0, horizon=horizon, split="validation", trials=trials)
    try:
        runner = make_runner(problem, unit, engine)
        runner.advance(0, WARM_STEPS)
        times = []
        for step in range(WARM_STEPS, horizon):
            start = time.perf_counter()
            losses = runner.advance(step, step + 1)
            losses.sum().item()
            times.append(time.perf_counter() - start)
        runner.outputs(problem.validation.x[: problem.batch_size])
    except WhichoptError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"the model cannot train on this data: {first_line}", pointer="/model") from error
    return min(times)
