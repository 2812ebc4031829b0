"""A study without training: an oracle answers for the engine, so thousands of trials take no time and truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from optim_core.search import Finish, Plan, plan
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import UnitState
from optim_core.spec.trial import (
    WORST_VALUE,
    Configuration,
    ProbeReport,
    StudyView,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
    UnitView,
)

# (configuration, share of the full horizon) → true loss; NaN means that it diverges.
Truth = Callable[[Configuration, float], float]


def spec(**changes) -> StudySpec:
    raw = {
        "model": {"kind": "catalogue", "name": "mlp"},
        "dataset": {"kind": "builtin", "name": "diabetes"},
        "metric": "loss",
        "budget": {"trials": 60},
        **changes,
    }
    return StudySpec.model_validate(raw)


def probe_report(**changes) -> ProbeReport:
    values = {
        "task": "regression",
        "metric": "loss",
        "direction": "minimize",
        "full_horizon": 400,
        "steps_per_epoch": 20,
        "parameter_count": 100,
        "train_rows": 60,
        "validation_rows": 20,
        "test_rows": 20,
        "data_hash": "h",
        "data_report": ["nothing was changed"],
        "pack_step_s": 0.001,
        "probe_pack_size": 16,
        "max_pack_size": 64,
        "engine": "batched",
        "engine_reason": "simulated",
        "device": "oracle",
        "versions": {"python": "3"},
        "optimizer_step_s": {},
    }
    return ProbeReport(**{**values, **changes})


def bowl(best: dict[str, float], width: float = 1.0) -> Truth:
    """Loss 1 + offset + (decades from the optimizer's best learning rate)²; twenty times above it diverges."""

    def truth(configuration: Configuration, share: float) -> float:
        optimum, floor = best.get(configuration.optimizer, (0.01, 1.0))
        decades = math.log10(float(configuration.hyperparameters["lr"]) / optimum)
        return math.nan if decades > 1.3 else floor + width * decades**2 + 0.2 * (1 - share)

    return truth


def answer(unit: UnitSpec, truth: Truth, noise: float, full: int = 400) -> UnitResult:
    if unit.kind == "probe":
        return UnitResult(
            trials=[], seconds=0.1, train_steps=1, device="oracle", engine="batched", probe=probe_report()
        )
    trials = [one(trial, unit, truth, noise, full) for trial in unit.trials]
    return UnitResult(
        trials=trials, seconds=0.1, train_steps=unit.horizon * len(trials), device="oracle", engine="batched"
    )


def one(trial: TrialParams, unit: UnitSpec, truth: Truth, noise: float, full: int) -> TrialResult:
    loss = truth(trial.configuration, unit.horizon / full)
    seed = derive_seed(trial.seed, unit.split, trial.configuration.model_dump_json())
    loss += noise * float(np.random.default_rng(seed).standard_normal())
    if math.isnan(loss):
        return TrialResult(
            number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=3, steps=unit.horizon
        )
    return TrialResult(number=trial.number, objective=loss, metric=loss, loss=loss, steps=unit.horizon)


def simulate(
    study: StudySpec,
    truth: Truth,
    noise: float = 0.01,
    shuffle: int | None = None,
    full: int = 400,
    seconds_per_unit: float = 0.1,
) -> tuple[StudyView, Finish]:
    """Run a study to its end. ``shuffle``: a seed that mixes the order in which units are stored and answered."""
    rng = np.random.default_rng(shuffle)
    units: list[UnitView] = []
    for _ in range(500):
        elapsed = seconds_per_unit * len(units)
        view = StudyView(study_id="s", spec=study, units=units, elapsed_s=elapsed, device_s=elapsed)
        step = plan(view)
        if isinstance(step, Finish):
            return view, step
        assert isinstance(step, Plan)
        assert step.units, "a plan without units would never end"
        known = {u.spec.key for u in units}
        assert not known & {u.key for u in step.units}, "a unit was planned twice"
        units = [
            *units,
            *(UnitView(spec=u, state=UnitState.DONE, result=answer(u, truth, noise, full)) for u in step.units),
        ]
        if shuffle is not None:
            units = [units[i] for i in rng.permutation(len(units))]
    raise AssertionError("the study never ends")
