"""What a person puts into the weights between ``eval()`` and ``train()`` is kept; without that they are the trained ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optim_core.spec.errors import SpecError
from optim_core.transforms.torch_adapter import build_optimizer

KINDS: dict[str, tuple[str, dict[str, float]]] = {
    "schedule_free_sgd": ("schedule_free_sgd", {}),
    "schedule_free_adamw": ("schedule_free_adamw", {}),
    "schedule_free_radam": ("schedule_free_radam", {}),
    "lookahead": ("lookahead(adamw)", {}),
    "asgd": ("asgd", {}),
    "ema": ("adamw", {"ema": 0.9}),
    "swa": ("momentum", {"swa": 2.0}),
    "ema of slow weights": ("lookahead(lion)", {"ema": 0.9}),
}


def network(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(dtype)


def go(model: nn.Module, optimizer: Any, steps: int) -> None:
    for t in range(steps):
        g = torch.Generator().manual_seed(t)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=g).to(p.dtype)
        optimizer.step()


def trained(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Any]:
    name, techniques = KINDS[kind]
    model = network(dtype)
    more = {"t0": 2} if name == "asgd" else {}
    optimizer = build_optimizer(name, model, lr=0.1, techniques=techniques, **more)
    go(model, optimizer, 8)
    return model, optimizer


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def alike(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def load(model: nn.Module) -> None:
    fresh = {
        key: torch.randn(x.shape, generator=torch.Generator().manual_seed(7)) for key, x in model.state_dict().items()
    }
    model.load_state_dict(fresh)


def draw_anew(model: nn.Module) -> None:
    for p in model.parameters():
        nn.init.uniform_(p, -1, 1)


def replace_data(model: nn.Module) -> None:
    for p in model.parameters():
        p.data = torch.full_like(p, 0.5)


def behind_autograd(model: nn.Module) -> None:
    for p in model.parameters():
        p.data.mul_(0.5)


CHANGES: list[Callable[[nn.Module], None]] = [load, draw_anew, replace_data, behind_autograd]


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_change_the_trained_weights_come_back(kind: str, dtype: torch.dtype) -> None:
    model, optimizer = trained(kind, dtype)
    before, state = values(model), copy.deepcopy(optimizer.state_dict())
    optimizer.eval()
    assert not alike(values(model), before)
    optimizer.train()
    assert alike(values(model), before)
    for mine, was in zip(optimizer.state_dict()["state"].values(), state["state"].values(), strict=True):
        assert mine.keys() == was.keys()
        assert all(torch.equal(mine[key], was[key]) for key in was)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_there_is_the_point_from_which_training_goes_on(
    kind: str, change: Callable[[nn.Module], None]
) -> None:
    model, optimizer = trained(kind)
    optimizer.eval()
    change(model)
    put = values(model)
    optimizer.eval()
    optimizer.train()
    assert alike(values(model), put)
    # No mean or slow weight remembers what was there before, as long as no step was taken.
    optimizer.eval()
    torch.testing.assert_close(values(model), put, rtol=1e-6, atol=1e-7)
    optimizer.train()
    assert alike(values(model), put)
    moments = [own.get("mean") for own in optimizer.state.values()]
    assert all(m is None or bool(m.abs().max() > 0) for m in moments), "moments go on"
    go(model, optimizer, 3)
    optimizer.eval()
    assert max(float((p - q).detach().abs().max()) for p, q in zip(model.parameters(), put, strict=True)) < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_one_changed_weight_says_nothing_of_the_others(kind: str) -> None:
    model, optimizer = trained(kind)
    before = values(model)
    optimizer.eval()
    with torch.no_grad():
        model[1].weight[0].zero_()
    pruned = model[1].weight.detach().clone()
    optimizer.train()
    assert torch.equal(model[1].weight, pruned)
    assert [torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)] == [True, True, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_saved_while_it_evaluates_goes_on_whatever_is_loaded_first(kind: str) -> None:
    model, optimizer = trained(kind)
    before = values(model)
    optimizer.eval()
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    for first in ("weights", "state"):
        twin, other = trained(kind)
        for part in (first, "state", "weights"):
            (twin if part == "weights" else other).load_state_dict(copy.deepcopy(saved[part == "state"]))
        other.train()
        assert alike(values(twin), before), first
    twin, other = trained(kind)
    with torch.no_grad():
        for p, q in zip(twin.parameters(), before, strict=True):
            p.copy_(q)
    other.load_state_dict(copy.deepcopy(saved[1]))
    # Trained weights with the state of evaluation: nothing to bring back, and the answer is still known.
    other.train()
    assert alike(values(twin), before)
    other.eval()
    torch.testing.assert_close(values(twin), [*saved[0].values()], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_another_shape_is_not_written_over(kind: str) -> None:
    model, optimizer = trained(kind)
    optimizer.eval()
    model[1].weight.data = torch.ones(2, 3)
    optimizer.train()
    assert torch.equal(model[1].weight, torch.ones(2, 3))
    if optimizer.method in ("schedule_free_sgd", "asgd"):
        # They keep points alone, which have begun anew.
        go(model, optimizer, 1)
        return
    with pytest.raises(SpecError, match="to begin anew"):
        go(model, optimizer, 1)
