"""Values that look like a real study's: a spec, units with curves, a recommendation."""

from __future__ import annotations

import math
import random
from typing import Any

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.trial import Configuration, CurvePoint, ProbeReport, TrialParams, TrialResult, UnitResult, UnitSpec

XSS = "<img src=x onerror=\"document.title='owned'\"><script>window.owned=1</script>"
SNIPPET = """import torch

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
    for i, trial in enumerate(unit.trials):
        if diverge and i == len(unit.trials) - 1:
            trials.append(TrialResult(number=trial.number, objective=1e6, metric=None, loss=None, diverged_at_step=41,
                                      steps=41))  # fmt: skip
            continue
        final = min(0.985, 0.955 + rng.gauss(0.0, 0.015))
        points = curve(final, unit.horizon)
        trials.append(TrialResult(number=trial.number, objective=-final, metric=final, loss=points[-1].loss,
                                  steps=unit.horizon, curve=points))  # fmt: skip
    return UnitResult(
        trials=trials, seconds=1.3, train_steps=unit.horizon * len(trials), device="cpu", engine="batched"
    )


def sample_recommendation(
    study_id: str, verdict: str = "better", optimizers: list[str] | None = None
) -> Recommendation:
    """``optimizers``: the league from the best down; the first four are confirmed, the first is recommended."""
    rng = random.Random(5)
    leaders = ["nesterov", "momentum", "nadamw", "adamw"]
    names = optimizers or [*leaders, *[n for n in SEARCHED if n not in (*leaders, "sgd")]]
    best = configuration(names[0], rng).model_dump()
    league: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        mean, confirmed, trials = 0.9762 - 0.0031 * i, i < 4, max(2, 12 - i)
        rate_width = round(1.4 - 0.1 * i, 1) if "lr" in OPTIMIZERS[name].defaults() else None
        league.append(
            {
                "optimizer": name, "best": mean, "confirmed": confirmed,
                "ci95": (mean - 0.0026, mean + 0.0026) if confirmed else None, "trials": trials,
                "tuning_curve": [
                    {"n": n, "expected": mean - 0.04 / n, "low": mean - 0.06 / n, "high": mean - 0.02 / n}
                    for n in range(1, trials + 1)
                ],
                "divergence_rate": 0.25 if i == 0 else 0.0, "lr_width_decades": rate_width,
                "step_s": 0.00031 + 0.00002 * i, "state_bytes_per_parameter": OPTIMIZERS[name].state_bytes_per_parameter,
                "configuration": configuration(name, rng).model_dump(),
            }
        )  # fmt: skip
    sign = {"better": 1.0, "no_difference": 0.1, "inconclusive": 0.5}[verdict]
    low = {"better": 0.0041, "no_difference": -0.0035, "inconclusive": -0.0062}[verdict]
    schedule = {"name": "cosine", "warmup_fraction": 0.05, "end_factor": 0.0}
    tuned = {"mean": 0.9669, "ci95": (0.9641, 0.9697), "seeds": 5, "schedule": schedule,
             "hyperparameters": OPTIMIZERS["adamw"].defaults()}  # fmt: skip
    return Recommendation.model_validate(
        {
            "schema": "whichopt.recommendation/1", "study": study_id, "verdict": verdict,
            "summary": "Nesterov momentum reached an accuracy of 0.976 on the test split over 5 fresh seeds, 0.009 above "
            "AdamW tuned with the same budget.",
            "recommended": {**best, "techniques": {}, "parameter_groups": [{"rule": "matrices", "weight_decay": 0.0004}]},
            "metric": {"name": "accuracy", "direction": "maximize", "split": "test"},
            "score": {"mean": 0.9762, "ci95": (0.9736, 0.9788), "seeds": 5},
            "baselines": {"adamw_tuned": tuned, "adamw_default": {**tuned, "mean": 0.9581, "ci95": (0.9537, 0.9625)}},
            "effect": {"versus": "adamw_tuned", "difference": 0.0093 * sign, "ci95": (low, 0.0093 * sign + 0.005),
                       "probability_better": 0.9994, "margin": 0.0097,
                       "further_seeds": 7 if verdict == "inconclusive" else None},
            "equivalent": [
                {"configuration": configuration(names[1], rng).model_dump(), "state_bytes_per_parameter": 4.0,
                 "score": {"mean": 0.9755, "ci95": (0.9731, 0.9779), "seeds": 5}},
            ],
            "league": league,
            "cost": {"trials": 60, "train_steps": 31280, "seconds": 41.7, "device": "cpu", "packs": 9, "mean_pack_size": 6.7},
            "dataset": {"report": ["1,797 rows were split into 1,077 for training, 360 for validation and 360 for the test.",
                                   "64 numeric columns were standardised with the training rows' mean and deviation."],
                        "hash": "ab" * 32, "rows": {"train": 1077, "validation": 360, "test": 360}},
            "engine": "batched", "snippet": SNIPPET,
            "replay": {"command": f"whichopt replay {study_id}", "seeds": [11, 12, 13, 14, 15], "data_hash": "ab" * 32,
                       "versions": {"torch": "2.10"}},
        },
        strict=False,
    )  # fmt: skip
