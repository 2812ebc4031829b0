"""EMA and SWA behind the torch face: the whole model is averaged at every step, as torch's AveragedModel averages it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from optim_core.transforms.torch_adapter import build_optimizer

STEPS = 24
TECHNIQUES = [{"ema": 0.8}, {"swa": 5.0}]
METHODS = ["adamw", "lion", "muon", "asgd", "lookahead(momentum)", "schedule_free_adamw", "sam(momentum)"]
# (step, name of the weight) → whether it has a gradient in that step.
PATTERNS: dict[str, Callable[[int, str], bool]] = {
    "all": lambda t, name: True,
    "frozen half way": lambda t, name: t < 12 or name != "0.weight",
    "in turn": lambda t, name: (t % 2 == 0) == name.startswith("0."),
    "one at a time": lambda t, name: name == ["0.weight", "0.bias", "2.weight", "2.bias"][t % 4],
    "idle expert": lambda t, name: t in (3, 15) or not name.startswith("2."),
    "a step of none": lambda t, name: t % 3 != 1,
    "late": lambda t, name: t > 9 or name != "2.weight",
}


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def step(model: nn.Module, optimizer: Any, t: int, pattern: str) -> None:
    g = torch.Generator().manual_seed(t)
    gradients = {name: torch.randn(p.shape, generator=g) for name, p in model.named_parameters()}

    def closure() -> Tensor:
        for name, p in model.named_parameters():
            p.grad = gradients[name].to(p.dtype) if PATTERNS[pattern](t, name) else None
        return torch.zeros(())

    closure()
    optimizer.step(closure)


def averaged_by_torch(name: str, technique: dict[str, float], pattern: str) -> nn.Module:
    """The same without the technique, and torch's mean of the points that count."""
    model = network()
    optimizer = build_optimizer(name, model)

    def mean(old: Tensor, new: Tensor, t: Tensor) -> Tensor:
        keep = min(technique["ema"], (1 + int(t)) / (10 + int(t)))
        return keep * old + (1 - keep) * new

    average = AveragedModel(model, avg_fn=mean if "ema" in technique else None)
    if "ema" in technique:
        average.update_parameters(model)
    for t in range(STEPS):
        step(model, optimizer, t, pattern)
        optimizer.eval()
        if t + 1 > technique.get("swa", 0):
            average.update_parameters(model)
        optimizer.train()
    return average.module


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("technique", TECHNIQUES, ids=["ema", "swa"])
@pytest.mark.parametrize("name", METHODS)
def test_every_weight_is_averaged_at_every_step(name: str, technique: dict[str, float], pattern: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model, techniques=technique)
    for t in range(STEPS):
        step(model, optimizer, t, pattern)
        if t == 13:
            # What was counted is saved, too.
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = build_optimizer(name, model, techniques=technique)
            optimizer.load_state_dict(torch.load(file))
    optimizer.eval()
    for p, right in zip(model.parameters(), averaged_by_torch(name, technique, pattern).parameters(), strict=True):
        torch.testing.assert_close(p, right, rtol=0, atol=1e-12)


def test_what_rests_is_averaged_in_any_precision_and_stays_where_it_is() -> None:
    model = network(torch.bfloat16)
    optimizer = build_optimizer("adamw", model, lr=0.1, techniques={"ema": 0.9})
    for t in range(3):
        step(model, optimizer, t, "all")
    before = copy.deepcopy(model[2].state_dict())
    for _ in range(60):
        step(model, optimizer, 1, "one at a time")
    optimizer.eval()
    assert all(torch.equal(x, before[key]) for key, x in model[2].state_dict().items())
    assert optimizer.state[model[2].weight]["averaged_weights"].dtype == torch.float32
