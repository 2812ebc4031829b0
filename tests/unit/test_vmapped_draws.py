"""Random numbers of a step: the same in any company, and good ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from optim_core.vmapped import one_trial
from optim_core.vmapped.draws import Draws, key_of, mixed
from optim_core.vmapped.stacked_mode import StackedMode
from optim_core.vmapped.torch_private import loops_unreported

CPU = torch.device("cpu")
MANY = 40_000


def rows() -> Tensor:
    """Uniform numbers where neighbours differ in one thing: the seed, the step, the call, or the element."""
    found = []
    for step in range(4):
        draws = Draws(range(5), step, CPU)
        found += [draws.uniform(MANY, torch.float64) for _ in range(3)]
    return torch.cat(found)


def test_hashes_are_those_of_splitmix() -> None:
    """The first numbers of the reference implementation with state 1234567 (https://prng.di.unimi.it/splitmix64.c)."""
    gamma = 0x9E3779B97F4A7C15
    assert [mixed(1234567 + i * gamma) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]


def test_tensors_hash_as_integers_do() -> None:
    draws = Draws([3], 4, CPU)
    wanted = [mixed(key_of(3, 4) + i * 0x9E3779B97F4A7C15) for i in range(5)]
    assert [x % 2**64 for x in draws._hashes(5)[0].tolist()] == wanted


def test_numbers_are_uniform_and_independent() -> None:
    x = rows()
    assert float((x.mean(1) - 0.5).abs().max()) < 5 / math.sqrt(12 * MANY)
    assert float((x.var(1) - 1 / 12).abs().max()) < 5 * math.sqrt(1 / 180 / MANY)
    counts = torch.stack([torch.histc(one, 64, 0, 1) for one in x])
    chi = ((counts - MANY / 64).pow(2) / (MANY / 64)).sum(1)
    # 63 degrees of freedom: mean 63, standard deviation 11.
    assert float((chi - 63).abs().max()) < 5 * math.sqrt(2 * 63)
    centred = x - 0.5
    between = centred @ centred.T / MANY * 12
    assert float((between - torch.eye(len(x), dtype=x.dtype)).abs().max()) < 5.5 / math.sqrt(MANY)
    for lag in (1, 2, 3, 4, 5, 8, 64):
        own = (centred[:, lag:] * centred[:, :-lag]).mean(1) * 12
        assert float(own.abs().max()) < 5.5 / math.sqrt(MANY), lag


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_masks_drop_at_their_rate_and_keep_the_mean(rate: float) -> None:
    masks = []
    for step in range(3):
        draws = Draws(range(4), step, CPU)
        for _ in range(2):
            keep, scale = draws.kept(rate, MANY)
            masks.append(keep.double())
            if rate < 1:
                assert scale == pytest.approx(1 / (1 - rate), rel=1e-3)
    kept = torch.cat(masks)
    noise = math.sqrt(rate * (1 - rate) / MANY)
    assert float((kept.mean(1) - (1 - rate)).abs().max()) <= 5 * noise + 1 / 2**16
    if 0 < rate < 1:
        centred = (kept - (1 - rate)) / math.sqrt(rate * (1 - rate))
        between = centred @ centred.T / MANY - torch.eye(len(kept), dtype=kept.dtype)
        between.fill_diagonal_(0.0)
        assert float(between.abs().max()) < 5.5 / math.sqrt(MANY)
        for lag in (1, 2, 3, 4, 8):
            assert float((centred[:, lag:] * centred[:, :-lag]).mean(1).abs().max()) < 5.5 / math.sqrt(MANY)


def test_normal_numbers_are_normal() -> None:
    x = Draws(range(6), 1, CPU).normal(MANY)
    assert float(x.mean(1).abs().max()) < 5 / math.sqrt(MANY)
    assert float((x.var(1) - 1).abs().max()) < 5 * math.sqrt(2 / MANY)
    assert float((x.pow(4).mean(1) - 3).abs().max()) < 5 * math.sqrt(96 / MANY)
    pairs = x.unflatten(1, (-1, 2))
    assert float((pairs[..., 0] * pairs[..., 1]).mean(1).abs().max()) < 5 / math.sqrt(MANY / 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_uniform_numbers_stay_below_one(dtype: torch.dtype) -> None:
    x = Draws(range(8), 0, CPU).uniform(200_000, dtype)
    assert x.dtype == dtype
    assert float(x.min()) >= 0.0
    assert float(x.max()) < 1.0
    assert abs(float(x.double().mean()) - 0.5) < 0.01


def test_integers_and_orders() -> None:
    draws = Draws([1, 2], 0, CPU)
    x = draws.integers(MANY, -3, 4)
    assert sorted(set(x.flatten().tolist())) == list(range(-3, 4))
    assert float((torch.histc(x[0].double(), 7, -3, 3) / MANY * 7 - 1).abs().max()) < 0.1
    order = draws.order(1000)
    assert torch.equal(order.sort(1).values, torch.arange(1000).expand(2, -1))
    assert not torch.equal(order[0], order[1])


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "dropout_inplace": lambda x: F.dropout(x.clone(), 0.3, inplace=True),
    "dropout_all": lambda x: F.dropout(x, 1.0),
    "torch.dropout": lambda x: torch.dropout(x, 0.3, True),
    "dropout1d": lambda x: F.dropout1d(x, 0.4),
    "dropout2d": lambda x: F.dropout2d(x.unsqueeze(-1), 0.4),
    "dropout3d_inplace": lambda x: F.dropout3d(x[..., None, None].clone(), 0.4, inplace=True),
    "alpha": lambda x: F.alpha_dropout(x, 0.3, True),
    "alpha_inplace": lambda x: F.alpha_dropout(x.clone(), 0.3, True, True),
    "feature_alpha": lambda x: F.feature_alpha_dropout(x, 0.3, True),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.2, is_causal=True),
    "attention_mask": lambda x: F.scaled_dot_product_attention(x, x, x, torch.ones(5, 5).tril().bool(), 0.2),
    "gumbel": lambda x: F.gumbel_softmax(x, hard=True),
    "randn_like": torch.randn_like,
    "rand_like": torch.rand_like,
    "randn": lambda x: torch.randn(3, 5) + x[0, 0, 0],
    "randn_size": lambda x: torch.randn(size=(3, 5), dtype=torch.float64) + x[0, 0, 0],
    "rand": lambda x: torch.rand((3, 5)) + x[0, 0, 0],
    "randint": lambda x: torch.randint(3, 9, (4, 5)) + x[0, 0, 0],
    "randint_high": lambda x: torch.randint(9, size=(4, 5), dtype=torch.int32) + x[0, 0, 0],
    "randint_like": lambda x: torch.randint_like(x, 2, 9),
    "randperm": lambda x: torch.randperm(7) + x[0, 0, 0],
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "bernoulli_p": lambda x: torch.bernoulli(x, 0.3),
    "bernoulli_": lambda x: x.clone().bernoulli_(0.3),
    "normal": lambda x: torch.normal(x, 0.3),
    "normal_std": lambda x: torch.normal(0.1, x.exp()),
    "normal_size": lambda x: torch.normal(1.0, 2.0, size=(3, 5)) + x[0, 0, 0],
    "normal_": lambda x: x.new_empty(4, 5).normal_(1.0, 2.0),
    "uniform_": lambda x: torch.empty_like(x).uniform_(-2, 3),
    "exponential_": lambda x: torch.empty_like(x).exponential_(2.0),
    "multinomial": lambda x: torch.multinomial(x[0].softmax(-1), 2),
    "multinomial_again": lambda x: torch.multinomial(x[0].softmax(-1), 9, replacement=True),
    "categorical": lambda x: torch.distributions.Categorical(logits=x, validate_args=False).sample(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_draws_the_same_alone_and_among_others(name: str) -> None:
    seeds, xs = [11, 12, 13, 14], torch.randn(4, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    func, state = FUNCTIONS[name], torch.get_rng_state()

    def stacked(x: Tensor) -> Any:
        with StackedMode(Draws(seeds, 9, CPU), 4, widened=False):
            first = func(x)
            return first, func(x)

    with loops_unreported():
        together = torch.func.vmap(stacked, randomness="error")(xs)
    for k, seed in enumerate(seeds):
        with one_trial(seed, 9):
            alone = func(xs[k]), func(xs[k])
        for a, b in zip(alone, together, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b[k], rtol=1e-6, atol=1e-6)
        assert name == "dropout_all" or not torch.equal(*alone)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "mean", "variance"),
    [
        ("randn_like", 0.0, 1.0), ("rand_like", 0.5, 1 / 12), ("bernoulli_p", 0.3, 0.21), ("uniform_", 0.5, 25 / 12),
        ("exponential_", 0.5, 0.25), ("randint_like", 5.0, 4.0), ("dropout", 2.0, 4 * 0.3 / 0.7), ("alpha", 0.0, 1.0),
        ("normal", 2.0, 0.09),
    ],
)  # fmt: skip
def test_a_function_has_its_distribution(name: str, mean: float, variance: float) -> None:
    # Alpha dropout keeps mean 0 and variance 1, and so wants them.
    x = torch.randn(MANY, generator=torch.Generator().manual_seed(1)) if name == "alpha" else torch.full((MANY,), 2.0)
    with one_trial(5, 0):
        found = FUNCTIONS[name](x).double()
    assert float(found.mean()) == pytest.approx(mean, abs=6 * math.sqrt(variance / MANY))
    assert float(found.var()) == pytest.approx(variance, rel=0.06)


def test_multinomial_has_its_probabilities() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    with one_trial(5, 0):
        drawn = torch.multinomial(p, MANY, replacement=True)
        first = torch.stack([torch.multinomial(p, 2) for _ in range(2000)])
    counts = torch.bincount(drawn, minlength=4) / MANY
    assert float((counts - p).abs().max()) < 0.012
    assert bool((first[:, 0] != first[:, 1]).all())
    assert float((torch.bincount(first[:, 0], minlength=4) / 2000 - p).abs().max()) < 0.05


def test_a_generator_of_the_person_s_own_is_used() -> None:
    with one_trial(1, 0):
        found = torch.randn(4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(found, torch.randn(4, generator=torch.Generator().manual_seed(2)))


def test_many_numbers_are_those_of_few_calls() -> None:
    """Whether trials share the work of a call does not show."""
    for count in (2**13, 2**13 + 1, 2**17 + 3):
        among, alone = Draws([1, 2], 0, CPU).one_by_one()[1], Draws([2], 0, CPU)
        for name in ("normal", "inside"):
            assert torch.equal(getattr(among, name)(count), getattr(alone, name)(count))
        assert torch.equal(among.kept(0.2, count)[0], alone.kept(0.2, count)[0])
        assert torch.equal(among.uniform(count, torch.float32), alone.uniform(count, torch.float32))
        assert torch.equal(among.order(9), alone.order(9))
        assert torch.equal(among.integers(9, 0, 5), alone.integers(9, 0, 5))
        assert among.calls == alone.calls
