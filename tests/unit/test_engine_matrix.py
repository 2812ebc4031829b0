"""Every model × optimizer × schedule: five trials at once equal five runs one after the other.

Equality to 1e-8 after 30 steps asks for learning rates at which training is not chaotic: there rounding, which differs between
a stacked product and five plain ones, grows by orders of magnitude. So rates go from a tenth of the default downwards. One pack
has five schedules, and as many packs follow each other as the optimizer's schedules need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from optim_core.engine.loop import evaluation_steps
from optim_core.engine.pack import PackRunner
from optim_core.engine.plateau import reacts
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import StudySpec
from optim_core.spec.schedules import SCHEDULES, complete_schedule
from optim_core.spec.trial import Configuration, Form, TrialParams
from optim_core.tasks.build import Problem, build_problem

K, STEPS, BATCH, ATOL = 5, 30, 8, 1e-8
BATCHED, ALONE = Form(engine="batched", width=K), Form(engine="sequential", width=1)
CHURN = Path(__file__).resolve().parents[2] / "examples" / "churn.csv"
TABLE = {"kind": "file", "path": str(CHURN), "target": "churned"}
# No bias in front of the norm: its gradient is zero but for rounding, and methods that look at signs would follow that.
LAYERS = [
    {"type": "Linear", "bias": False, "out_features": 6},
    {"type": "BatchNorm"},
    {"type": "Tanh"},
    {"type": "Dropout", "p": 0.2},
    {"type": "Linear", "out_features": 3},
]
# Smooth activations where a model has a choice: at the bend of a ReLU a rounding error is a different gradient.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({"name": "linear"}, {"name": "iris"}),
    "mlp": ({"name": "mlp", "hidden": [6], "activation": "tanh", "dropout": 0.1}, {"name": "iris"}),
    "cnn": ({"name": "cnn", "width": 2, "depth": 2, "activation": "silu"}, {"name": "digits"}),
    "resnet": ({"name": "resnet", "width": 2, "stages": 2, "activation": "gelu"}, {"name": "digits"}),
    "gru": ({"name": "gru", "width": 4}, {"name": "iris"}),
    "lstm": ({"name": "lstm", "width": 4}, {"name": "iris"}),
    "transformer": (
        {"name": "transformer", "width": 4, "depth": 1, "heads": 2, "activation": "gelu"},
        {"name": "iris"},
    ),
    "tabular": ({"name": "tabular", "hidden": [6], "width": 2, "activation": "silu"}, TABLE),
    "batch norm": ({"kind": "layers", "layers": LAYERS}, {"name": "iris"}),
}
# Softmax takes no notice of it, so its gradient is zero but for rounding, which methods that look at signs follow. The outputs
# show that nothing else does.
WITHOUT_GRADIENT = "key.bias"
GRADIENT = [name for name, row in OPTIMIZERS.items() if row.batched]


@lru_cache
def problem(model: str, dtype: torch.dtype = torch.float64) -> Problem:
    network, data = MODELS[model]
    raw = {
        "model": {"kind": "catalogue", **network},
        "dataset": {"kind": "builtin", **data},
        "training": {"batch_size": BATCH},
    }
    return build_problem(StudySpec.model_validate(raw), dtype=dtype)


def fitting(optimizer: str) -> list[str]:
    """The schedules that make sense with it: all of the catalogue for most."""
    row = OPTIMIZERS[optimizer]
    return [
        name
        for name, schedule in SCHEDULES.items()
        if row.fits_schedule(decays=schedule.decays, restarts=schedule.restarts, constant=name == "constant")
    ]


def packs(optimizer: str) -> list[list[TrialParams]]:
    """Packs of five trials in which every fitting schedule occurs."""
    schedules = iter(fitting(optimizer))
    found = []
    while chosen := list(islice(schedules, K)):
        # The last pack is filled up with the optimizer's first schedules again.
        chosen += [fitting(optimizer)[i % len(fitting(optimizer))] for i in range(K - len(chosen))]
        found.append([trial(i, optimizer, schedule) for i, schedule in enumerate(chosen)])
    return found


def trial(i: int, optimizer: str, schedule: str) -> TrialParams:
    """The i-th of five: a learning rate, a weight decay and (all but the last two) a seed of its own."""
    defaults = OPTIMIZERS[optimizer].defaults()
    values = {**defaults, "lr": 0.1 * float(defaults["lr"]) / 2**i, "weight_decay": 0.01 * i}
    for name in ("beta1", "momentum"):
        if name in values:
            values[name] = float(defaults[name]) - 0.02 * i
    return TrialParams(
        number=i,
        configuration=Configuration(
            optimizer=optimizer, hyperparameters=values, schedule=complete_schedule({"name": schedule})
        ),
        seed=min(i, 3),
        stage="search",
        origin="test",
    )


def run(task: Problem, trials: list[TrialParams], form: Form) -> tuple[torch.Tensor, PackRunner]:
    """Losses (K, 30) and the runner afterwards. Schedules that react are told losses of the validation rows."""
    runner, found, first = PackRunner(task, trials, STEPS, form), [], 0
    for last in evaluation_steps(STEPS) if any(reacts(t.configuration) for t in trials) else [STEPS]:
        found.append(runner.advance(first, last))
        loss, _ = task.evaluate_batched(runner.outputs(task.validation.x), task.validation.y)
        runner.observe(loss)
        first = last
    return torch.cat(found, dim=1), runner


def assert_equal(found: PackRunner, alone: PackRunner, x: torch.Tensor, what: object) -> None:
    """Weights and outputs of the trials that ``found`` has, which are the first of ``alone``."""
    weights = found.weights()
    for name, own in alone.weights().items():
        if not name.endswith(WITHOUT_GRADIENT):
            stacked = weights[name]
            assert float((stacked - own[: len(stacked)]).abs().max()) <= ATOL, (name, what)
    outputs = found.outputs(x)
    assert float((outputs - alone.outputs(x)[: len(outputs)]).abs().max()) <= ATOL, what


# Each network with every second method, and the neighbour with the others: a fault of either shows, in half the time.
PAIRS = [(m, o) for i, m in enumerate(MODELS) for j, o in enumerate(GRADIENT) if (i + j) % 2 == 0]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "optimizer"), PAIRS)
def test_five_at_once_equal_five_alone(model: str, optimizer: str) -> None:
    task, x = problem(model), problem(model).validation.x
    for i, trials in enumerate(packs(optimizer)):
        (losses, stacked), (right, alone) = run(task, trials, BATCHED), run(task, trials, ALONE)
        names = [str(t.configuration.schedule["name"]) for t in trials]
        assert bool(right.isfinite().all())
        assert float((losses - right).abs().max()) <= ATOL, names
        assert_equal(stacked, alone, x, names)
        if i == 0:
            # So few trials are updated in another way than five.
            losses, pair = run(task, trials[:2], BATCHED)
            assert float((losses - right[:2]).abs().max()) <= ATOL, names
            assert_equal(pair, alone, x, names)


def test_the_matrix_has_every_schedule_that_fits() -> None:
    assert len(MODELS) == 9
    for optimizer in GRADIENT:
        found = {str(t.configuration.schedule["name"]) for trials in packs(optimizer) for t in trials}
        assert found == set(fitting(optimizer))
        assert found >= set(OPTIMIZERS[optimizer].schedules)
    everything = {name for optimizer in GRADIENT for name in fitting(optimizer)}
    assert everything == set(SCHEDULES)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_drifts_little_in_thirty_steps(
    model: str, record_property: Callable[[str, object], None]
) -> None:
    task, trials = problem(model, torch.float32), packs("adamw")[0]
    losses, _ = run(task, trials, BATCHED)
    right, _ = run(task, trials, ALONE)
    drift = float(((losses - right).abs() / right.abs()).max())
    record_property("float32_drift", drift)
    assert drift <= 1e-3
