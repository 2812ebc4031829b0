"""Moments in eight bits against float32: number by number within the tree's cells, and at the end of training."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from optim_core.spec.errors import SpecError
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.transforms.eight_bit import BLOCK, LEAST, SCALES, beside_moments, eight_bit, quantised, restored, tree
from optim_core.transforms.registry import build_transform
from optim_core.transforms.torch_adapter import build_optimizer
from tests.unit.test_transforms import with_base

GRADIENT = [name for name, row in OPTIMIZERS.items() if row.kind == "gradient"]


def besides(name: str) -> list[str] | None:
    return beside_moments(build_transform(name), with_base(OPTIMIZERS[name].defaults()))


METHODS = [name for name in GRADIENT if besides(name) == []]


@pytest.mark.parametrize("signed", [True, False])
def test_the_tree_has_256_values_and_seven_decades(signed: bool) -> None:
    values = tree(signed)
    assert len(values.unique()) == 256
    assert (float(values.min()) < -0.99) is signed
    assert float(values.max()) == 1.0
    assert bool((values == 0).any())
    positive = values[values > 0]
    # From the smallest decade, 10⁻⁷ to 10⁻⁶, on.
    assert 1e-7 < float(positive.min()) < 1e-6
    for i in range(7):
        low, high = 10.0 ** (i - 7), 10.0 ** (i - 6)
        assert int(((positive > low) & (positive < high)).sum()) == 2**i * (1 if signed else 2)


@pytest.mark.parametrize("signed", [True, False])
def test_every_number_is_the_nearest_value_of_the_tree_at_its_blocks_scale(signed: bool) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 411, generator=g) * 10 ** torch.randn(7, 411, generator=g)
    x = x if signed else x * x
    x[2, 5:300] = 0.0
    codes, scales = quantised(x, signed)
    assert (codes.dtype, codes.shape, len(scales)) == (torch.uint8, x.shape, -(-x.numel() // BLOCK))
    back = restored(codes, scales, signed, torch.float32)
    for block in range(len(scales)):
        own, found = (y.flatten()[block * BLOCK : (block + 1) * BLOCK] for y in (x, back))
        largest = own.abs().max()
        distance = (own.unsqueeze(1) - tree(signed) * largest).abs()
        if not signed:
            distance[own > 0, 0] = float("inf")
        torch.testing.assert_close((own - found).abs(), distance.min(1).values, rtol=1e-4, atol=float(largest) * 1e-9)
        # Half of the widest cell: 0.9/64, or 0.9/128, and the half cell below 1.
        assert float((own - found).abs().max()) <= (0.45 / 64 if signed else 0.45 / 128) * float(largest) * 1.001
    assert bool((back[x == 0] == 0).all())
    assert signed or bool((back[x > 0] > 0).all())


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_those_of_a_binary_search_next_to_every_edge_and_in_every_decade(signed: bool) -> None:
    edges = (tree(signed)[1:] + tree(signed)[:-1]) / 2
    beside = [torch.nextafter(edges, torch.tensor(float(end))) for end in (-9, 9)]
    g = torch.Generator().manual_seed(4)
    spread = 10 ** (-8 * torch.rand(1 << 16, generator=g)) * torch.randn(1 << 16, generator=g).sign()
    x = torch.cat([edges, *beside, tree(signed), spread if signed else spread.abs()])
    # A block's largest number is 1, so that the shares are the numbers themselves.
    blocks = torch.cat([x, torch.zeros(-len(x) % (BLOCK - 1))]).view(-1, BLOCK - 1)
    codes, _ = quantised(torch.cat([blocks, torch.ones(len(blocks), 1)], 1), signed)
    right = torch.bucketize(blocks, edges)
    assert torch.equal(codes[:, :-1].long(), right if signed else torch.where(blocks > 0, right.clamp(min=1), right))


def test_normal_numbers_keep_two_digits_on_average() -> None:
    x = torch.randn(1 << 16, generator=torch.Generator().manual_seed(1))
    codes, scales = quantised(x, True)
    error = (restored(codes, scales, True, torch.float32) - x).abs()
    assert float(error.mean() / scales.mean()) < 0.003
    assert float((error / x.abs()).median()) < 0.0125


def test_a_number_that_is_no_number_is_not_hidden() -> None:
    x = torch.ones(3 * BLOCK)
    x[BLOCK + 3] = float("nan")
    back = restored(*quantised(x, True), True, torch.float32)
    assert bool(back[BLOCK : 2 * BLOCK].isnan().all())
    assert bool((back[:BLOCK] == 1).all() and (back[2 * BLOCK :] == 1).all())


def trained(name: str, eight: bool) -> tuple[float, dict[str, Tensor], dict]:
    """Loss, weights and state after 200 steps of regression on a teacher with two hidden layers, the rate falling to zero."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(256, 64, generator=g)
    y = torch.tanh(x @ torch.randn(64, 64, generator=g) / 8) @ torch.randn(64, 1, generator=g) / 8
    params = {
        "in": torch.randn(64, 128, generator=g) / 8,
        "bias": torch.zeros(128),
        "middle": torch.randn(128, 64, generator=g) / 11,
        "out": torch.randn(64, 1, generator=g) / 8,
    }
    hypers = [with_base({**OPTIMIZERS[name].defaults(), "lr": 3e-3})]
    transform = build_transform(name)
    transform = eight_bit(transform) if eight else transform
    state = transform.init(params, hypers)
    loss = torch.zeros(())
    for t in range(1, 201):
        hypers = [{**hypers[0], "lr": 3e-3 * (1 - (t - 1) / 200)}]
        own = {n: p.clone().requires_grad_() for n, p in params.items()}
        hidden = torch.tanh(torch.tanh(x @ own["in"] + own["bias"]) @ own["middle"])
        loss = (hidden @ own["out"] - y).square().mean()
        loss.backward()
        grads = {n: p.grad for n, p in own.items()}
        params, state = transform.update(params, grads, state, hypers, t)
    return loss.item(), params, state


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_training_ends_where_it_ends_in_float32_with_a_quarter_of_the_memory(name: str) -> None:
    (loss, params, state), (right, expected, full) = trained(name, True), trained(name, False)
    # It began above 0.3.
    assert loss <= 1.1 * right + 2e-5
    distance = sum(float((params[n] - p).square().sum()) for n, p in expected.items()) ** 0.5
    # Where a step has the size of the rate and only its sign from the moment, another sign is another way.
    near = 0.25 if name in ("lion", "signum", "sophia") else 0.06
    assert distance < near * sum(float(p.square().sum()) for p in expected.values()) ** 0.5
    large = [n for n, p in params.items() if p.numel() >= LEAST]
    assert large == ["in", "middle"]

    def held(memory: dict) -> int:
        return sum(x.nbytes for own in memory.values() for n, x in own.items() if n in large)

    assert held(state) < 0.26 * held(full)
    first = next(key for key in state if key + SCALES in state)
    assert state[first]["bias"].dtype == torch.float32
    assert state[first + SCALES]["in"].numel() == 64 * 128 // BLOCK


def face(dtype: torch.dtype, name: str = "adamw", **more: Any) -> tuple[torch.nn.Module, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.Tanh(), torch.nn.Linear(96, 8)).to(dtype)
    return model, build_optimizer(name, model, lr=1e-3, state_bits=8, **more)


def train(model: torch.nn.Module, optimizer: Any, steps: range) -> list[Tensor]:
    for t in steps:
        g = torch.Generator().manual_seed(t)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=g).to(p.dtype)
        optimizer.step(lambda: torch.zeros(()))
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_torch_face_keeps_codes_and_goes_on_from_them_bit_for_bit(dtype: torch.dtype) -> None:
    model, optimizer = face(dtype)
    right = train(model, optimizer, range(8))
    large = next(model.parameters())
    assert {optimizer.state[large][key].dtype for key in ("mean", "square")} == {torch.uint8}
    for again in (copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both)), saved_and_loaded):
        model, optimizer = face(dtype)
        train(model, optimizer, range(4))
        model, optimizer = again((model, optimizer))
        assert all(torch.equal(a, b) for a, b in zip(train(model, optimizer, range(4, 8)), right, strict=True))
        assert optimizer.state[next(model.parameters())]["mean"].dtype == torch.uint8


def saved_and_loaded(both: tuple[torch.nn.Module, Any]) -> tuple[torch.nn.Module, Any]:
    model, optimizer = both
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    model, optimizer = face(next(model.parameters()).dtype, optimizer.method)
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    return model, optimizer


def test_gradients_are_clipped_over_the_whole_model_and_weights_averaged_as_in_float32() -> None:
    techniques = {"clip_norm": 0.5, "ema": 0.9}
    model, optimizer = face(torch.float32, techniques=techniques)
    full = face(torch.float32)[0]
    reference = build_optimizer("adamw", full, lr=1e-3, techniques=techniques)
    for eight, right in zip(train(model, optimizer, range(20)), train(full, reference, range(20)), strict=True):
        assert float((eight - right).detach().abs().max()) < 0.003
        assert float((eight - right).norm()) < 0.01 * float(right.norm())
    optimizer.eval()
    reference.eval()
    for eight, right in zip(model.parameters(), full.parameters(), strict=True):
        assert float((eight - right).detach().abs().max()) < 0.003


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_keeps_moments_alone_goes_on_from_its_codes(name: str) -> None:
    model, optimizer = face(torch.float32, name)
    right = train(model, optimizer, range(6))
    assert all(p.isfinite().all() for p in right)
    both = face(torch.float32, name)
    train(*both, range(3))
    model, optimizer = saved_and_loaded(both)
    assert all(torch.equal(a, b) for a, b in zip(train(model, optimizer, range(3, 6)), right, strict=True))
    held = optimizer.state[next(model.parameters())]
    assert {held[key.removesuffix(SCALES)].dtype for key in held if key.endswith(SCALES)} == {torch.uint8}


def test_who_keeps_what_eight_bits_would_spoil() -> None:
    family = {"adam", "adamw", "amsgrad", "adamax", "nadam", "nadamw", "radam", "adan", "adopt", "adabelief", "laprop"}
    assert family | {"lion", "lamb", "mars", "adamp", "stable_adamw", "rmsprop", "cautious", "sam"} <= set(METHODS)
    kept = {"adagrad": ["sum"], "ademamix": ["slow"], "adam_mini": ["square"], "lookahead": ["slow_weights"]}
    assert {name: besides(name) for name in kept} == kept
    assert {"left", "right"} <= set(besides("soap") or ())
    assert besides("sgd") is None


def test_eight_bits_are_refused_where_they_mean_nothing() -> None:
    model, optimizer = face(torch.float32)
    with pytest.raises(SpecError, match="prodigy keeps distance, start of a matrix: eight bits are for moments"):
        build_optimizer("prodigy", model, state_bits=8)
    with pytest.raises(SpecError, match="32 or 8"):
        build_optimizer("adamw", model, state_bits=4)
    with pytest.raises(SpecError, match="complex"):
        build_optimizer("adamw", [torch.zeros(2, dtype=torch.complex64, requires_grad=True)], state_bits=8)
    train(model, optimizer, range(1))
    with pytest.raises(SpecError, match="saved in 8 bits, and the optimizer keeps it in 32"):
        build_optimizer("adamw", model).load_state_dict(optimizer.state_dict())
