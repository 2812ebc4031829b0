"""A study without training: an oracle answers for the engine, so thousands of trials take no time and truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from optim_core.search import Finish, Plan, plan
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.states import UnitState
from optim_core.spec.trial import (
    WORST_VALUE,
    Configuration,
    ProbeReport,
    ReferenceRows,
    StudyView,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
    UnitView,
)

ROWS_PER_FOLD = 20
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


def answer(
    unit: UnitSpec, truth: Truth, noise: float, full: int = 400, seconds: float = 0.1, report: ProbeReport | None = None
) -> UnitResult:
    if unit.kind == "probe":
        report = report or probe_report(full_horizon=full)
        return UnitResult(trials=[], seconds=0.1, train_steps=0, device="oracle", engine="batched", probe=report)
    trials = [one(trial, unit, truth, noise, full) for trial in unit.trials]
    return UnitResult(
        trials=trials, seconds=seconds, train_steps=unit.horizon * len(trials), device="oracle", engine="batched"
    )


def references(unit: UnitSpec, beside: dict[str, float], noise: float) -> UnitResult:
    found = []
    for name in unit.references:
        rows = {}
        for split, fold in (("test", unit.fold or 0), ("validation", ((unit.fold or 0) + 1) % 5)):
            rows[split] = pack((beside[name] + noise * common_rows(fold)).tolist(), "f")
        found.append(ReferenceRows(name=name, train_rows=60, rows=rows))
    return UnitResult(trials=[], references=found, seconds=0.1, train_steps=0, device="oracle", engine="scikit-learn")


def common_rows(fold: int) -> np.ndarray:
    """What the rows of a fold have in common, whoever is scored on them."""
    common = np.random.default_rng(derive_seed("rows", fold)).standard_normal(ROWS_PER_FOLD)
    return common - common.mean()


def one(trial: TrialParams, unit: UnitSpec, truth: Truth, noise: float, full: int) -> TrialResult:
    loss = truth(trial.configuration, unit.horizon / full)
    # A run's own luck, and that of each row, which all configurations share in part.
    rng = np.random.default_rng(
        derive_seed(trial.seed, unit.split, unit.fold or 0, trial.configuration.model_dump_json())
    )
    loss += noise * float(rng.standard_normal())
    if math.isnan(loss):
        return TrialResult(
            number=trial.number, objective=WORST_VALUE, metric=None, loss=None, diverged_at_step=3, steps=unit.horizon
        )
    rows = {}
    if unit.kind == "confirm":
        for split, fold in (("test", unit.fold or 0), ("validation", ((unit.fold or 0) + 1) % 5)):
            own = rng.standard_normal(ROWS_PER_FOLD)
            rows[split] = pack((loss + noise * (common_rows(fold) + 0.3 * own)).tolist(), "f")
    return TrialResult(number=trial.number, objective=loss, metric=loss, loss=loss, steps=unit.horizon, rows=rows)


def simulate(
    study: StudySpec,
    truth: Truth,
    noise: float = 0.01,
    shuffle: int | None = None,
    full: int = 400,
    seconds_per_step: float = 1e-5,
    workers: int = 1,
    until: str | None = None,
    report: ProbeReport | None = None,
    beside: dict[str, float] | None = None,
) -> tuple[StudyView, Finish]:
    """Run a study to its end. ``shuffle``: a seed that mixes the order in which units are stored and end.

    ``until``: stop before the first unit of this kind is answered, as if everything else had been done. ``report``: what
    the probe says. ``beside``: the true loss of models of another kind.
    """
    rng = np.random.default_rng(shuffle)
    units: list[UnitView] = []
    for _ in range(2000):
        done = [u for u in units if u.state == UnitState.DONE]
        device = math.fsum(u.result.seconds for u in done if u.result is not None)
        view = StudyView(
            study_id="s", spec=study, units=units, elapsed_s=device / workers, device_s=device, workers=workers
        )
        step = plan(view)
        if isinstance(step, Finish):
            return view, step
        if isinstance(step, Plan):
            assert step.units, "a plan without units would never end"
            known = {u.spec.key for u in units}
            assert not known & {u.key for u in step.units}, "a unit was planned twice"
            if until in {u.kind for u in step.units}:
                return view, Finish()
            units = [*units, *(UnitView(spec=u, state=UnitState.QUEUED) for u in step.units)]
        waiting = [i for i, u in enumerate(units) if u.state == UnitState.QUEUED]
        assert waiting, "a study that waits for nothing would never end"
        chosen = waiting[0] if shuffle is None else int(rng.choice(waiting))
        unit = units[chosen].spec
        seconds = seconds_per_step * unit.horizon * max(1, len(unit.trials))
        if unit.kind == "reference":
            result = references(unit, beside or {}, noise)
        else:
            result = answer(unit, truth, noise, full, seconds, report)
        units = [*units[:chosen], UnitView(spec=unit, state=UnitState.DONE, result=result), *units[chosen + 1 :]]
        if shuffle is not None:
            units = [units[i] for i in rng.permutation(len(units))]
    raise AssertionError("the study never ends")
