"""Weights change in place: a graph that was recorded before a step must not give gradients of weights that are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.face_matrix import METHODS, Method

# One small weight is taken by itself, many are bundled; a large one on the CPU is alone, too.
SHAPES = ((6, 4), (6, 4), (4, 3, 2, 2), (5,), ())
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def moved(optimizer: Any, weights: list[nn.Parameter], act: Callable[[], Any]) -> list[bool]:
    """For each weight whether ``act`` has counted on its version, as autograd asks it, where it has changed it at all."""
    before = [(p._version, p.detach().clone()) for p in weights]
    act()
    return [p._version > version or torch.equal(p, old) for p, (version, old) in zip(weights, before, strict=True)]


def given_gradients(weights: list[nn.Parameter]) -> Tensor:
    g = torch.Generator().manual_seed(1)
    for p in weights:
        p.grad = torch.randn(p.shape, generator=g).to(p.dtype)
    return torch.zeros(())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name} {dict(m.techniques)}")
def test_whatever_writes_into_a_weight_is_seen_by_autograd(method: Method, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=g).to(dtype)) for shape in SHAPES]
    optimizer = method.build([{"params": weights[:3], "role": "matrix"}, {"params": weights[3:], "role": "vector"}])
    given_gradients(weights)
    for act in (*[lambda: optimizer.step(lambda: given_gradients(weights))] * 6, optimizer.eval, optimizer.train):
        assert all(moved(optimizer, weights, act))


@pytest.mark.parametrize(
    "name", ["sgd", "momentum", "nesterov", "adagrad", "adam", "adamw", "amsgrad", "lookahead(adamw)"]
)
def test_a_loss_from_before_a_step_is_refused_as_by_torchs_own(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = build_optimizer(name, model)
    x = torch.randn(5, 3)
    first, other = model(x).square().mean(), model(-x).square().mean()
    other.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.backward()
