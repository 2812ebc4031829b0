"""What suites of other libraries ask of an optimizer, asked of every method of the catalogue."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS, Hyperparameter
from optim_core.transforms.torch_adapter import build_optimizer

WRAPPED = ["lookahead(momentum)", "cautious(lion)", "sam(momentum)", "sam(lookahead(adam))", "lookahead(muon)"]
GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"] + WRAPPED
MINIMIZERS = [name for name, row in OPTIMIZERS.items() if row.kind != "gradient"]
SHAPES = [(3, 2), (4,), (2, 3, 2, 2), (3, 2), (), (1, 1), (5, 5), (4,)]


def drawn(seed: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def weights(values: list[Tensor]) -> list[nn.Parameter]:
    return [nn.Parameter(p.clone()) for p in values]


def steps(optimizer: Any, params: list[nn.Parameter], which: slice, count: int, first: int = 0) -> None:
    """Steps ``first`` and those after it, with the gradients ``which`` of those that ``drawn`` gives."""
    for t in range(first, first + count):

        def closure(t: int = t) -> Tensor:
            for p, g in zip(params, drawn(100 + t)[which], strict=True):
                p.grad = g.clone()
            return torch.zeros(())

        closure()
        optimizer.step(closure if OPTIMIZERS[optimizer.method].gradients > 1 else None)


# Getting down


def rates(name: str) -> list[dict[str, float]]:
    """Four rates over the range that is searched; one empty setting for a method without a rate."""
    lr = next((h for h in OPTIMIZERS[name].hyperparameters if h.name == "lr"), None)
    if lr is None:
        return [{}]
    return [{"lr": math.exp(math.log(lr.low) + share * math.log(lr.high / lr.low))} for share in (0.1, 0.4, 0.7, 1.0)]


def lowest(name: str, make: Callable[[], tuple[list[nn.Parameter], Callable[[], Tensor]]], count: int) -> float:
    """Loss in the end over loss at the start, at the best of the rates."""
    found = []
    for setting in rates(name):
        params, loss = make()
        optimizer = build_optimizer(name, params, **setting)

        def closure(loss: Callable[[], Tensor] = loss, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        start = loss().item()
        for _ in range(count if name in GRADIENT else 1):
            optimizer.step(closure)
        optimizer.eval()
        found.append(loss().item() / start)
    return min(share for share in found if math.isfinite(share))


def valley() -> tuple[list[nn.Parameter], Callable[[], Tensor]]:
    """Rosenbrock's, a hundred times flatter, so that a plain gradient step of a usual rate does not leave it."""
    p = nn.Parameter(torch.tensor([1.5, 1.5]))
    return [p], lambda: 0.01 * (1 - p[0]) ** 2 + (p[1] - p[0] ** 2) ** 2


def two_clouds() -> tuple[list[nn.Parameter], Callable[[], Tensor]]:
    """A small network that tells two clouds of points apart."""
    g = torch.Generator().manual_seed(0)
    y = (torch.arange(40) % 2).float()
    x = torch.randn(40, 3, generator=g) + (2 * y - 1)[:, None]
    layers = [nn.Parameter(torch.randn(shape, generator=g)) for shape in ((3, 4), (4,), (4, 1))]
    first, bias, last = layers
    loss = nn.functional.binary_cross_entropy_with_logits
    return layers, lambda: loss(((x @ first + bias).tanh() @ last)[:, 0], y)


@pytest.mark.parametrize("name", [*GRADIENT, *MINIMIZERS])
def test_every_method_gets_down_at_some_rate_of_its_range(name: str) -> None:
    assert lowest(name, valley, 60) < 0.1
    assert lowest(name, two_clouds, 60) < 0.5


# Gradients that are special


@pytest.mark.parametrize("name", GRADIENT)
def test_gradients_with_repeated_indices_count_as_their_sum(name: str) -> None:
    ends = []
    for sparse in (False, True):
        p = nn.Parameter(drawn(0, [(5, 3)])[0])
        optimizer = build_optimizer(name, [p])
        for t in range(4):
            rows = torch.tensor([[t, 0, t, 4]])
            g = torch.sparse_coo_tensor(rows, drawn(t, [(4, 3)])[0], (5, 3), check_invariants=True)
            assert not g.is_coalesced()

            def closure(p: nn.Parameter = p, g: Tensor = g, sparse: bool = sparse) -> Tensor:
                p.grad = g.clone() if sparse else g.to_dense()
                return torch.zeros(())

            closure()
            optimizer.step(closure)
        ends.append(p.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", GRADIENT)
def test_weights_at_zero_with_gradients_of_zero_stay_there(name: str, dtype: torch.dtype) -> None:
    params = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SHAPES]
    optimizer = build_optimizer(name, params)

    def closure() -> Tensor:
        for p in params:
            p.grad = torch.zeros_like(p)
        return torch.zeros(())

    for _ in range(3):
        closure()
        optimizer.step(closure)
    assert all(torch.equal(p, torch.zeros_like(p)) for p in params)
    assert all(bool(torch.as_tensor(x).isfinite().all()) for own in optimizer.state.values() for x in own.values())


@pytest.mark.parametrize("name", GRADIENT)
def test_without_any_gradient_nothing_moves_and_nothing_is_remembered(name: str) -> None:
    params, calls = weights(drawn(0)), itertools.count()
    optimizer = build_optimizer(name, params)
    optimizer.step()
    assert optimizer.step(lambda: next(calls) + 0.5) == 0.5
    optimizer.zero_grad()
    optimizer.eval()
    optimizer.train()
    assert next(calls) == 1
    assert all(torch.equal(p, before) for p, before in zip(params, drawn(0), strict=True))
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("name", GRADIENT)
def test_a_closure_is_called_once_a_gradient_and_its_first_loss_is_given_back(name: str) -> None:
    params, calls = weights(drawn(0)), itertools.count()
    optimizer = build_optimizer(name, params)

    def closure() -> int:
        assert torch.is_grad_enabled()
        for p, g in zip(params, drawn(100), strict=True):
            p.grad = g
        return next(calls)

    assert optimizer.step(closure) == 0
    assert next(calls) == OPTIMIZERS[name].gradients


# Param groups and state


def assert_same(found: dict[str, Any], right: dict[str, Any]) -> None:
    torch.testing.assert_close(found["state"], right["state"], rtol=0, atol=0)
    assert found["param_groups"] == right["param_groups"]


@pytest.mark.parametrize("name", [n for n in GRADIENT if OPTIMIZERS[n].couples != "model"])
def test_a_group_of_its_own_rate_and_decay_is_trained_as_alone(name: str) -> None:
    """Its weights are also as if each of them was the only one, however many are worked on at once."""
    half, rate = len(SHAPES) // 2, float(OPTIMIZERS[name].defaults()["lr"])
    values = [{"lr": 0.5 * rate, "weight_decay": 0.2}, {"lr": 2.0 * rate, "weight_decay": 0.0}]
    together = weights(drawn(0))
    groups = [{"params": together[:half], **values[0]}, {"params": together[half:], **values[1]}]
    steps(build_optimizer(name, groups, lr=7.0, weight_decay=3.0), together, slice(None), 6)
    for i, found in enumerate(together):
        alone = weights(drawn(0)[i : i + 1])
        steps(build_optimizer(name, [{"params": alone, **values[i // half]}]), alone, slice(i, i + 1), 6)
        torch.testing.assert_close(found, alone[0], rtol=1e-9, atol=1e-10)
        assert not torch.allclose(found, drawn(0)[i], rtol=1e-6)


@pytest.mark.parametrize("name", GRADIENT)
def test_a_state_dict_that_was_loaded_is_the_one_that_was_saved(name: str) -> None:
    params = weights(drawn(0))
    optimizer = build_optimizer(name, params, weight_decay=0.1)
    steps(optimizer, params, slice(None), 5)
    saved = copy.deepcopy(optimizer.state_dict())
    untouched = copy.deepcopy(saved)
    others = weights([p.detach() for p in params])
    loaded = build_optimizer(name, others)
    loaded.load_state_dict(saved)
    assert_same(loaded.state_dict(), untouched)
    for one, its in ((optimizer, params), (loaded, others)):
        steps(one, its, slice(None), 3, first=5)
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))
    assert_same(loaded.state_dict(), optimizer.state_dict())
    assert_same(saved, untouched)


@pytest.mark.parametrize("name", GRADIENT)
def test_a_rate_in_a_tensor_is_that_number(name: str) -> None:
    ends = []
    for kind in (float, torch.tensor):
        params = weights(drawn(0))
        optimizer = build_optimizer(name, params, lr=kind(0.03125))
        steps(optimizer, params, slice(None), 3)
        optimizer.param_groups[0]["lr"] = kind(0.015625)
        steps(optimizer, params, slice(None), 3, first=3)
        ends.append(params)
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))


# Values that are refused


def impossible(hyper: Hyperparameter) -> list[Any]:
    below = 2 if hyper.sample_as == "flag" else -1e-3
    return [below, math.nan, "0.1", None, *([1.0] if hyper.sample_as == "one_minus" else [math.inf])]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_hyperparameter_refuses_what_it_cannot_be(name: str) -> None:
    for hyper in OPTIMIZERS[name].hyperparameters:
        for value in impossible(hyper):
            with pytest.raises(SpecError, match=hyper.name):
                build_optimizer(name, [nn.Parameter(torch.ones(2))], **{hyper.name: value})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torchs_switches_for_speed_are_refused_as_there_is_one_way(name: str) -> None:
    for switch in ("foreach", "fused", "capturable"):
        with pytest.raises(SpecError, match=f"unknown hyperparameter '{switch}'"):
            build_optimizer(name, [nn.Parameter(torch.ones(2))], **{switch: True})
