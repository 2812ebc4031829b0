"""K stacked networks against each of them alone: ``torch.func.functional_call`` and autograd say what is right."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from optim_core.nn.dropout import RATE, SEED, STEP
from optim_core.stacked.network import StackedNetwork

Named = dict[str, Tensor]
ATOL = 1e-10


class Copies(NamedTuple):
    """Weights and buffers of K networks by name, each (K, *shape)."""

    weights: Named
    buffers: Named


def in_rows(tensors: Named) -> Named:
    """Views of one row per trial, cut as an arena cuts them: a trial's numbers lie apart from those of the next."""
    k = len(next(iter(tensors.values())))
    rows = torch.cat([tensor.reshape(k, -1) for tensor in tensors.values()], dim=1)
    parts = rows.split([tensor[0].numel() for tensor in tensors.values()], dim=1)
    return {name: part.unflatten(1, own.shape[1:]) for (name, own), part in zip(tensors.items(), parts, strict=True)}


def copies_of(module: nn.Module, k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Copies:
    """K networks that differ in everything: weights, running statistics, seeds and rates of dropout."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(shape: torch.Size) -> Tensor:
        return torch.randn(k, *shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = {name: 0.6 * drawn(p.shape) for name, p in module.named_parameters()}
    buffers: Named = {}
    for name, b in module.named_buffers():
        short = name.rpartition(".")[2]
        if short == SEED:
            buffers[name] = torch.arange(100, 100 + k)
        elif short == STEP:
            buffers[name] = torch.full((k,), 3)
        elif short == RATE:
            buffers[name] = torch.linspace(0.0, 0.7, k, dtype=torch.float64)
        elif short == "running_var":
            buffers[name] = 0.5 + drawn(b.shape).abs()
        elif short == "running_mean":
            buffers[name] = drawn(b.shape)
        else:
            buffers[name] = torch.zeros(k, *b.shape, dtype=b.dtype)
    return Copies(in_rows(weights) if weights else weights, buffers)


class Found(NamedTuple):
    """(K, outputs, n) outputs, gradients by name, buffers afterwards."""

    outputs: Tensor
    gradients: Named
    buffers: Named


def one_by_one(module: nn.Module, copies: Copies, x: Tensor, direction: Tensor, trained: Collection[str]) -> Found:
    """The reference. ``x``: (K or 1, n, …); ``direction``: the gradient of the outputs, (K, outputs, n)."""
    outputs, gradients, buffers = [], [], []
    for i in range(len(direction)):
        own = {name: p[i].clone().requires_grad_(name in trained) for name, p in copies.weights.items()}
        state = {name: b[i].clone() for name, b in copies.buffers.items()}
        y = functional_call(module, {**own, **state}, (x[i % len(x)].clone(),))
        leaves = [own[name] for name in trained]
        found = torch.autograd.grad(y, leaves, direction[i].T) if leaves else ()
        gradients.append(dict(zip(trained, found, strict=True)))
        outputs.append(y.detach().T)
        buffers.append(state)
    return Found(torch.stack(outputs), _stacked(gradients), _stacked(buffers))


def together(
    module: nn.Module,
    copies: Copies,
    x: Tensor,
    direction: Tensor,
    trained: Collection[str],
    *,
    vectorise: bool = False,
) -> Found:
    """The same from ``StackedNetwork``, with slots as the engine has them, which hold NaN before."""
    network = StackedNetwork(module, trained, x[0, :2], vectorise=vectorise)
    buffers = {name: b.clone() for name, b in copies.buffers.items()}
    blank = {name: torch.full_like(copies.weights[name], torch.nan) for name in trained}
    slots = in_rows(blank) if blank else {}
    # The engine hands weights that are not trained over as constants, in the place of buffers.
    weights = {name: p for name, p in copies.weights.items() if name in trained}
    constants = {name: p for name, p in copies.weights.items() if name not in trained}
    outputs, back = network.forward(weights, {**buffers, **constants}, x, slots)
    outputs = outputs.clone()
    assert back is not None
    back(direction.clone())
    return Found(outputs, slots, buffers)


def assert_equal_to_each_alone(
    module: nn.Module, x: Tensor, k: int, trained: Collection[str], *, vectorise: bool = False, seed: int = 0
) -> None:
    """Outputs, gradients and running statistics; nothing that was passed in is changed."""
    copies = copies_of(module, k, seed)
    n = x.shape[1]
    with torch.no_grad():
        width = functional_call(module, {name: p[0] for name, p in copies.weights.items()}, (x[0],)).shape[1]
    reset(module)
    generator = torch.Generator().manual_seed(seed + 1)
    direction = torch.randn(k, width, n, generator=generator, dtype=torch.float64)
    expected = one_by_one(module, copies, x, direction, trained)
    before = {name: p.clone() for name, p in copies.weights.items()}, x.clone()
    with torch.no_grad():
        found = together(module, copies, x, direction, trained, vectorise=vectorise)
    _same("outputs", found.outputs, expected.outputs)
    for name, gradient in expected.gradients.items():
        _same(name, found.gradients[name], gradient)
    for name, buffer in expected.buffers.items():
        _same(name, found.buffers[name], buffer)
    assert torch.equal(x, before[1])
    assert all(torch.equal(copies.weights[name], p) for name, p in before[0].items())
    network = StackedNetwork(module, trained, x[0, :2], vectorise=vectorise)
    fresh = {name: b.clone() for name, b in copies.buffers.items()}
    with torch.no_grad():
        plain, back = network.forward(copies.weights, fresh, x)
    assert back is None
    _same("outputs without backward", plain, expected.outputs)


def reset(module: nn.Module) -> None:
    """Running statistics of the module itself as they were: a look at its width has changed them."""
    for inner in module.modules():
        if isinstance(inner, (nn.BatchNorm1d, nn.BatchNorm2d)):
            inner.reset_running_stats()


def _same(what: str, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=ATOL, atol=ATOL, check_stride=False, msg=lambda m: f"{what}: {m}")


def _stacked(rows: list[Named]) -> Named:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
