"""The batched engine equals the sequential reference for models of parts that torch cannot stack by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from optim_core.engine.loop import make_runner
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.trial import Configuration, TrialParams, UnitSpec
from optim_core.tasks.build import Problem, build_problem

STEPS = 10
CHURN = Path(__file__).resolve().parents[2] / "examples" / "churn.csv"
DATA: dict[str, dict[str, Any]] = {
    "images": {"kind": "builtin", "name": "digits"},
    "numbers": {"kind": "builtin", "name": "wine"},
    "table": {"kind": "file", "path": str(CHURN), "target": "churned"},
}


def problem(model: dict[str, Any], data: str) -> Problem:
    raw = {"model": {"kind": "catalogue", **model}, "dataset": DATA[data], "training": {"batch_size": 16}}
    return build_problem(StudySpec.model_validate(raw), dtype=torch.float64)


def five_trials(one_seed: bool) -> list[TrialParams]:
    return [
        TrialParams(
            number=i,
            configuration=Configuration(
                optimizer=name,
                hyperparameters={**OPTIMIZERS[name].defaults(), "lr": 0.003 * (i + 1)},
                schedule={"name": "cosine" if i % 2 else "constant"},
            ),
            seed=0 if one_seed else i,
            stage="search",
            origin="test",
        )
        for i, name in enumerate(["adamw", "momentum", "lion", "adamw", "muon"])
    ]


@pytest.mark.parametrize("one_seed", [True, False])
@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"name": "gru"}, "images"),
        ({"name": "gru", "width": 8, "depth": 2, "dropout": 0.2}, "numbers"),
        ({"name": "lstm"}, "images"),
        ({"name": "lstm", "width": 8, "depth": 2, "dropout": 0.2}, "numbers"),
        ({"name": "tabular"}, "table"),
        ({"name": "tabular", "hidden": [16], "width": 3, "dropout": 0.2}, "table"),
        ({"name": "tabular"}, "numbers"),
    ],
)
def test_batched_equals_sequential(model: dict[str, Any], data: str, one_seed: bool) -> None:
    task = problem(model, data)
    assert task.batchable == (True, "")
    trials = five_trials(one_seed)
    unit = UnitSpec(key="u", kind="train", rung=0, horizon=STEPS, split="validation", trials=trials)
    batched, sequential = (make_runner(task, unit, engine) for engine in ("batched", "sequential"))
    assert (batched.advance(0, STEPS) - sequential.advance(0, STEPS)).abs().max() <= 1e-9
    for name, stacked in batched.weights().items():
        assert (stacked - sequential.weights()[name]).abs().max() <= 1e-9, name
    x = task.validation.x
    assert (batched.outputs(x) - sequential.outputs(x)).abs().max() <= 1e-9
