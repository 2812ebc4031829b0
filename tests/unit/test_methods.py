"""What single methods promise beside their steps: the point they answer with, and limits in which they are another method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.registry import build_transform
from tests.unit.oracles import CASES
from tests.unit.test_transforms import gradient, run, settings, start, with_base


def answers(name: str, hyper: dict[str, Any], steps: int) -> dict[str, Tensor]:
    """Where the method says that the result is, after some steps."""
    transform, params, hypers = build_transform(name), start(0), [with_base(hyper)]
    state = transform.init(params, hypers)
    for t in range(1, steps + 1):
        params, state = transform.update(params, gradient(params, t), state, hypers, t)
    return transform.answer(params, state, hypers)


def reference(name: str, hyper: dict[str, Any], steps: int) -> tuple[Any, list[Tensor]]:
    """The other library's optimizer and its weights after the same steps."""
    weights = [p.clone().requires_grad_() for p in start(0).values()]
    optimizer = CASES[name].make(weights, hyper)
    for t in range(1, steps + 1):
        named = {n: w.detach() for n, w in zip(start(0), weights, strict=True)}
        for p, g in zip(weights, gradient(named, t).values(), strict=True):
            p.grad = g
        optimizer.step()
    return optimizer, weights


def test_averaged_sgd_answers_with_the_average_that_torch_keeps_in_its_state() -> None:
    for t0 in (0, 7, 1000):
        hyper = {**settings("asgd")[1], "t0": t0}
        optimizer, weights = reference("asgd", hyper, 30)
        for found, p in zip(answers("asgd", hyper, 30).values(), weights, strict=True):
            # torch keeps η and the share of an iterate in single precision.
            torch.testing.assert_close(found, optimizer.state[p]["ax"], rtol=0, atol=1e-7)


def test_schedule_free_methods_answer_where_their_authors_evaluate() -> None:
    for name in ("schedule_free_sgd", "schedule_free_adamw", "schedule_free_radam"):
        hyper = {**settings(name)[1], **({} if name.endswith("radam") else {"warmup_steps": 9})}
        optimizer, weights = reference(name, hyper, 30)
        optimizer.eval()
        for found, p in zip(answers(name, hyper, 30).values(), weights, strict=True):
            torch.testing.assert_close(found, p.detach(), rtol=0, atol=1e-12)


def test_schedule_free_radam_moves_nothing_before_its_rate_is_known() -> None:
    path = run(build_transform("schedule_free_radam"), start(0), OPTIMIZERS["schedule_free_radam"].defaults(), steps=6)
    assert [bool((path[t]["matrix"] == start(0)["matrix"]).all()) for t in range(6)] == [True] * 4 + [False] * 2
    assert all(bool(p.isfinite().all()) for p in path[-1].values())


def test_swats_learns_nothing_of_its_rate_from_a_step_without_a_gradient() -> None:
    hyper = with_base({**settings("swats")[1], "eps": 0.3, "tolerance": 1e-3})
    transform, params = build_transform("swats"), start(0)
    state = transform.init(params, [hyper])
    params, state = transform.update(params, gradient(params, 1), state, [hyper], 1)
    none = {n: torch.zeros_like(p) for n, p in params.items()}
    _, after = transform.update(params, none, state, [{**hyper, "weight_decay": 0.0}], 2)
    assert float(state["trial"]["mean_rate"]) == float(after["trial"]["mean_rate"]) > 0
    assert float(after["trial"]["switched"]) == 0
