"""Hooks and profilers see every step, as of torch's own optimizers, though torch's wrapper is left out where none listens."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import ExecutionTraceObserver, ProfilerActivity, profile

from optim_core.transforms.torch_adapter import build_optimizer

METHODS = ("adamw", "muon", "cma_es", "lookahead(adamw)")


def made(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, build_optimizer(name, model)


def closure_of(model: nn.Module) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        model.zero_grad()
        loss = (model(torch.ones(2, 3)) - 1).square().mean()
        if loss.requires_grad:
            loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", METHODS)
def test_hooks_run_around_every_step_in_torchs_order(name: str) -> None:
    model, optimizer = made(name)
    seen: list[tuple[str, Any, int]] = []

    def noting(what: str) -> Callable[..., None]:
        return lambda own, args, kwargs: seen.append((what, own, len(args) + len(kwargs)))

    optimizer.step(closure_of(model))
    handles = [
        register_optimizer_step_pre_hook(noting("pre of all")),
        optimizer.register_step_pre_hook(noting("pre")),
        optimizer.register_step_post_hook(noting("post")),
        register_optimizer_step_post_hook(noting("post of all")),
    ]
    try:
        optimizer.step(closure_of(model))
    finally:
        for handle in handles:
            handle.remove()
    optimizer.step(closure_of(model))
    # The optimizer itself is torch's first argument.
    assert seen == [(what, optimizer, 2) for what in ("pre of all", "pre", "post", "post of all")]


def test_one_kind_of_hook_is_enough() -> None:
    model, optimizer = made("adamw")
    for register in (
        optimizer.register_step_pre_hook,
        optimizer.register_step_post_hook,
        register_optimizer_step_pre_hook,
        register_optimizer_step_post_hook,
    ):
        seen: list[Any] = []
        handle = register(lambda own, args, kwargs, seen=seen: seen.append(own))
        optimizer.step(closure_of(model))
        handle.remove()
        assert seen == [optimizer]


def test_a_hook_may_change_the_arguments() -> None:
    model, optimizer = made("adamw")
    calls: list[int] = []

    def counted() -> Tensor:
        calls.append(1)
        return closure_of(model)()

    optimizer.register_step_pre_hook(lambda own, args, kwargs: ((own, counted), {}))
    optimizer.step()
    assert calls == [1]


def test_hooks_go_with_copies() -> None:
    model, optimizer = made("adamw")
    optimizer.step(closure_of(model))
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        seen: list[Any] = []
        copied.register_step_post_hook(lambda own, args, kwargs, seen=seen: seen.append(own))
        optimizer.step(closure_of(model))
        copied.step()
        assert seen == [copied]


def test_a_profiler_names_the_step() -> None:
    model, optimizer = made("adamw")
    optimizer.step(closure_of(model))
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        optimizer.step(closure_of(model))
    names = [event.key for event in watched.key_averages()]
    assert f"Optimizer.step#{type(optimizer).__name__}.step" in names


def test_a_subclass_that_steps_in_its_own_way_is_heard_once() -> None:
    model, optimizer = made("adamw")

    class Counting(type(optimizer)):
        def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
            self.count = getattr(self, "count", 0) + 1
            return super().step(closure)

    optimizer.__class__ = Counting
    optimizer._patch_step_function()
    optimizer.step(closure_of(model))
    assert optimizer.count == 1


def test_an_observer_that_is_no_profiler_names_the_step(tmp_path: Path) -> None:
    model, optimizer = made("adamw")
    observer = ExecutionTraceObserver().register_callback(str(tmp_path / "trace.json"))
    observer.start()
    optimizer.step(closure_of(model))
    observer.stop()
    observer.unregister_callback()
    assert f"Optimizer.step#{type(optimizer).__name__}.step" in (tmp_path / "trace.json").read_text()


def test_a_step_that_raises_ends_its_record() -> None:
    _, optimizer = made("adamw")

    def raising() -> Tensor:
        raise RuntimeError("mine")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="mine"):
            optimizer.step(raising)
