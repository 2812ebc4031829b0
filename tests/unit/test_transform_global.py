"""A method that sees the whole model and keeps numbers per trial fits the contract and both engines."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from optim_core.engine import sequential
from optim_core.engine.checkpoint import dump, load
from optim_core.engine.loop import make_runner
from optim_core.engine.updates import parts
from optim_core.spec.problem import StudySpec
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import TrialParams, UnitSpec
from optim_core.tasks.build import build_problem
from optim_core.transforms.base import Hypers, Params, State, Transform, global_norm, in_place, per_trial

STEPS = 30


def dog() -> Transform:
    """Distance over gradients (arXiv 2302.12022): lr_t = max ‖p_i − p_0‖ / √Σ‖g_i‖², one number per trial."""

    def init(params: Params, hypers: Hypers) -> State:
        zero = torch.zeros((), dtype=torch.float64)
        return {"start": {n: p.clone() for n, p in params.items()}, "trial": {"far": zero, "sum": zero}}

    def update(params: Params, grads: Params, state: State, hypers: Hypers, t: int) -> tuple[Params, State]:
        hyper = hypers[0]
        lead = 1 if isinstance(hyper["lr"], Tensor) else 0

        def square(tensors: Params) -> Tensor:
            return global_norm(list(tensors.values()), lead) ** 2

        moved = square({n: p - state["start"][n] for n, p in params.items()}).sqrt().clamp(min=1e-3)
        far = torch.maximum(state["trial"]["far"], moved)
        summed = state["trial"]["sum"] + square(grads)
        rate = hyper["lr"] * far / summed.sqrt()
        new = {n: p - per_trial(rate, p) * grads[n] for n, p in params.items()}
        return new, {"start": state["start"], "trial": {"far": far, "sum": summed}}

    return Transform(init, update, in_place(update))


@pytest.fixture(autouse=True)
def _engines_use_dog(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (parts, sequential):
        monkeypatch.setattr(engine, "build_transform", lambda name, layout=None, techniques=(): dog())


def runner(kind: str):
    task = build_problem(
        StudySpec.model_validate(
            {"model": {"kind": "catalogue", "name": "mlp"}, "dataset": {"kind": "builtin", "name": "iris"}}
        ),
        dtype=torch.float64,
    )
    base = default_configuration("heavy_ball")
    trials = [
        TrialParams(
            number=i,
            configuration=base.model_copy(update={"hyperparameters": {**base.hyperparameters, "lr": lr}}),
            seed=i,
            stage="search",
            origin="test",
        )
        for i, lr in enumerate((1.0, 0.5, 2.0))
    ]
    unit = UnitSpec(key="u", kind="train", rung=0, horizon=STEPS, split="validation", trials=trials)
    return make_runner(task, unit, kind)  # type: ignore[arg-type]


def test_both_engines_agree_and_trials_have_numbers_of_their_own() -> None:
    together, alone = runner("batched"), runner("sequential")
    together.advance(0, STEPS)
    alone.advance(0, STEPS)
    for name, stacked in together.weights().items():
        torch.testing.assert_close(stacked, alone.weights()[name], rtol=0, atol=1e-9)
    far = [float(state["memory"]["trial"]["far"]) for state in together.state() if state is not None]
    assert len(set(far)) == len(far) == 3


@pytest.mark.parametrize("kind", ["batched", "sequential"])
def test_numbers_per_trial_survive_a_checkpoint(kind: str) -> None:
    first, second = runner(kind), runner(kind)
    first.advance(0, 10)
    stored = load(dump("x", first.state()), "x")
    assert stored is not None
    second.restore(stored)
    for one in (first, second):
        one.advance(10, STEPS)
    for name, weight in first.weights().items():
        assert torch.equal(weight, second.weights()[name])
