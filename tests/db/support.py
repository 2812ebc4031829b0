"""Small studies, units and results for the tests of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optim_core.spec.problem import Budget, BuiltinDataset, CatalogueModel, StudySpec
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import (
    WORST_VALUE,
    CurvePoint,
    ProbeReport,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
)
from service.db import Database
from service.operations import planning, queue, studies

OPTIMIZERS = ("adamw", "sgd", "lion")


def make_spec(seed: int = 0, **budget: Any) -> StudySpec:
    return StudySpec(
        model=CatalogueModel(name="mlp"),
        dataset=BuiltinDataset(name="digits"),
        budget=Budget(**(budget or {"trials": 16})),
        seed=seed,
    )


def make_unit(key: str, numbers: list[int], *, rung: int = 0, stage: str = "search") -> UnitSpec:
    trials = [
        TrialParams(
            number=number,
            configuration=default_configuration(OPTIMIZERS[number % 3]),
            seed=number,
            stage=stage,  # type: ignore[arg-type]
            origin="tpe",
        )
        for number in numbers
    ]
    confirm = stage == "confirm"
    return UnitSpec(
        key=key,
        kind="confirm" if confirm else "train",
        rung=rung,
        horizon=100,
        split="test" if confirm else "validation",
        trials=trials,
    )


def make_point(step: int, value: float = 0.5) -> CurvePoint:
    return CurvePoint(step=step, train_loss=1.0 / step, loss=2.0 / step, value=value)


def make_result(unit: UnitSpec, diverged: tuple[int, ...] = (), probe: ProbeReport | None = None) -> UnitResult:
    """Trial n scores 1 − n/100, so number 0 is best; those in ``diverged`` diverge at step 3."""
    trials = [
        TrialResult(
            number=trial.number,
            objective=WORST_VALUE if trial.number in diverged else trial.number / 100,
            metric=None if trial.number in diverged else 1 - trial.number / 100,
            loss=None if trial.number in diverged else 0.3,
            diverged_at_step=3 if trial.number in diverged else None,
            steps=unit.horizon,
            curve=[make_point(50), make_point(100)],
        )
        for trial in unit.trials
    ]
    steps = unit.horizon * len(trials)
    return UnitResult(trials=trials, seconds=1.0, train_steps=steps, device="cpu", engine="batched", probe=probe)


def make_probe(**changes: Any) -> ProbeReport:
    values: dict[str, Any] = {
        "task": "classification", "metric": "f1", "direction": "maximize", "full_horizon": 100, "steps_per_epoch": 10,
        "parameter_count": 5, "train_rows": 6, "validation_rows": 2, "test_rows": 2, "data_hash": "h",
        "data_report": ["nothing was done"], "pack_step_s": 0.1, "probe_pack_size": 2, "max_pack_size": 4,
        "engine": "batched", "engine_reason": "fits", "device": "cpu", "versions": {"python": "3"},
    }  # fmt: skip
    return ProbeReport(**(values | changes))


def make_recommendation(study_id: str) -> Recommendation:
    configuration = default_configuration("lion").model_dump()
    score = {"mean": 0.9, "ci95": (0.8, 1.0), "seeds": 2, "runs": 10, "rows": 10}
    effect = {"difference": 0.1, "ci95": (0.0, 0.2), "probability_better": 0.99, "margin": 0.01}
    adamw = default_configuration("adamw").model_dump()
    baseline = {**score, "hyperparameters": adamw["hyperparameters"], "schedule": adamw["schedule"]}
    return Recommendation.model_validate(
        {
            "schema": "whichopt.recommendation/1",
            "study": study_id,
            "verdict": "better",
            "headline": "Lion it is",
            "summary": "Lion gains, and beats AdamW.",
            "notes": ["One table."],
            "recommended": {**configuration, "parameter_groups": [{"match": "*", "lr": 0.1}]},
            "metric": {"name": "accuracy", "direction": "maximize"},
            "score": score,
            "baselines": {"adamw_default": baseline, "adamw_tuned": baseline},
            "gain": {**effect, "versus": "adamw_default"},
            "effect": {**effect, "versus": "adamw_tuned"},
            "equivalent": [],
            "not_tried": [],
            "trivial": {"score": 0.5, "beaten": True},
            "league": [],
            "cost": {
                "trials": 1,
                "confirmation_runs": 10,
                "train_steps": 100,
                "seconds": 1.0,
                "device": "cpu",
                "packs": 1,
                "mean_pack_size": 1.0,
            },
            "dataset": {"report": [], "hash": "h", "rows": {"train": 6}},
            "engine": "batched",
            "snippet": "pass",
            "replay": {
                "command": "whichopt replay",
                "seeds": [1],
                "folds": 5,
                "wide": True,
                "data_hash": "h",
                "versions": {},
            },
        }
    )


def study_with_units(db: Database, units: list[UnitSpec]) -> str:
    """The id of a new study in whose queue the units wait."""
    study_id = studies.create_study(db, make_spec()).id
    assert planning.apply_plan(db, study_id, units, "test") == len(units)
    return study_id


def claim(db: Database, study_id: str | None = None, lease_s: float = 60.0) -> queue.Claim:
    """A claim that must succeed."""
    found = queue.claim_unit(db, "worker", lease_s, study_id)
    assert found is not None
    return found


@contextmanager
def planner_turn(db: Database, study_id: str) -> Iterator[planning.Advance | None]:
    """A turn to plan this study; None also while another is at it."""
    if planning.begin_one(db, [study_id]) is None:
        yield None
        return
    with planning.turn_of(db, study_id) as turn:
        yield turn
