"""Values that look like a real study's: a spec and units with curves. Answers are in ``web_answers``."""

from __future__ import annotations

import math
import random

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.rowscores import pack
from optim_core.spec.trial import (
    Configuration,
    CurvePoint,
    ProbeReport,
    Split,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
)

XSS = "<img src=x onerror=\"document.title='owned'\"><script>window.owned=1</script>"
SNIPPET = """import torch

total_steps = 192  # as measured: set it to the optimizer steps of your whole run
optimizer = torch.optim.SGD(
    [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.0004},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ],
    lr=0.0713,
    momentum=0.912,
    nesterov=True,
)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
"""


# Those that compete when a study names none.
SEARCHED = [name for name, row in OPTIMIZERS.items() if row.searched]
# Names with brackets, no learning rate, no schedule.
UNUSUAL = ["lookahead(sgd)", "lbfgs", "sam(schedule_free_adamw)", "simulated_annealing"]


def sample_spec(name: str | None = "digits, two hidden layers", optimizers: list[str] | None = None) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": name,
            "model": {"kind": "catalogue", "name": "mlp"},
            "dataset": {"kind": "builtin", "name": "digits"},
            "search": {"optimizers": optimizers},
            "budget": {"trials": 60},
        }
    )


def configuration(optimizer: str, rng: random.Random) -> Configuration:
    info = OPTIMIZERS[optimizer]
    values = info.defaults()
    if "lr" in values:
        values["lr"] = float(values["lr"]) * 10 ** rng.uniform(-1, 1)
    return Configuration(
        optimizer=optimizer,
        hyperparameters=values,
        schedule={"name": info.default_schedule, "warmup_fraction": 0.05},
    )


def probe_unit() -> UnitSpec:
    trial = TrialParams(number=0, configuration=configuration("adamw", random.Random(0)), seed=1, stage="portfolio",
                        origin="probe")  # fmt: skip
    return UnitSpec(key="probe", kind="probe", rung=0, horizon=10, split="validation", trials=[trial])


def probe_result() -> UnitResult:
    report = ProbeReport(
        task="classification", metric="accuracy", direction="maximize", full_horizon=680, steps_per_epoch=34,
        parameter_count=2410, train_rows=1077, validation_rows=360, test_rows=360, data_hash="ab" * 32,
        data_report=["64 numeric columns were standardised."], pack_step_s=0.002, probe_pack_size=8, max_pack_size=64,
        engine="batched", engine_reason="", device="cpu", versions={"torch": "2.10"},
    )  # fmt: skip
    return UnitResult(trials=[], seconds=0.4, train_steps=10, device="cpu", engine="batched", probe=report)


def curve(final: float, horizon: int, points: int = 12) -> list[CurvePoint]:
    """Accuracy that rises towards ``final``."""
    steps = [max(1, round(horizon * (i + 1) / points)) for i in range(points)]
    found = []
    for step in steps:
        grown = final * (1 - 0.85 * math.exp(-5 * step / horizon))
        loss = 2.3 * (1.02 - grown)
        found.append(CurvePoint(step=step, train_loss=0.8 * loss, loss=loss, value=grown))
    return found


def train_unit(index: int, first_number: int, optimizers: list[str], horizon: int = 680) -> UnitSpec:
    rng = random.Random(index)
    trials = [
        TrialParams(number=first_number + i, configuration=configuration(name, rng), seed=7,
                    stage="portfolio" if index == 0 else "search", origin="portfolio" if index == 0 else "tpe")
        for i, name in enumerate(optimizers)
    ]  # fmt: skip
    return UnitSpec(key=f"search-{index}", kind="train", rung=0, horizon=horizon, split="validation", trials=trials)


def train_result(unit: UnitSpec, diverge: bool = False) -> UnitResult:
    rng = random.Random(unit.key)
    trials = []
    rows: dict[Split, str] = {"test": pack([1, 0, 1, 1], "B"), "validation": pack([1, 0], "B")}
    for i, trial in enumerate(unit.trials):
        if diverge and i == len(unit.trials) - 1:
            trials.append(TrialResult(number=trial.number, objective=1e6, metric=None, loss=None, diverged_at_step=41,
                                      steps=41))  # fmt: skip
            continue
        final = min(0.985, 0.955 + rng.gauss(0.0, 0.015))
        points = curve(final, unit.horizon)
        trials.append(TrialResult(number=trial.number, objective=-final, metric=final, loss=points[-1].loss,
                                  steps=unit.horizon, curve=points,
                                  rows=rows if unit.kind == "confirm" else {}))  # fmt: skip
    return UnitResult(
        trials=trials, seconds=1.3, train_steps=unit.horizon * len(trials), device="cpu", engine="batched"
    )
