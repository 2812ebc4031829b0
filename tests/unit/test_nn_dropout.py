"""Dropout masks depend on seed, step, layer and element, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optim_core.counter import hashes, sixteen
from optim_core.nn.dropout import SeededDropout, factors, set_seed, set_step


def masks(
    seeds: list[int], step: int, layer: int = 0, p: float = 0.4, shape: tuple[int, ...] = (64, 50)
) -> torch.Tensor:
    """(K, *shape) of what is left of ones, run as one pack."""
    module = SeededDropout(p, layer)
    buffers = {
        "dropout_seed": torch.zeros(len(seeds), dtype=torch.int64),
        "dropout_step": torch.zeros(len(seeds), dtype=torch.int64),
        "dropout_rate": torch.full((len(seeds),), p, dtype=torch.float64),
    }
    set_seed(buffers, torch.tensor(seeds))
    set_step(buffers, step)
    x = torch.ones(shape)
    return torch.vmap(lambda state: torch.func.functional_call(module, state, (x,)))(buffers)


def test_a_trial_drops_the_same_at_any_place_of_any_pack() -> None:
    alone = masks([7], step=3)[0]
    torch.testing.assert_close(masks([7, 1, 2], step=3)[0], alone, rtol=0, atol=0)
    torch.testing.assert_close(masks([5, 9, 7, 8], step=3)[2], alone, rtol=0, atol=0)
    module = SeededDropout(0.4, 0)
    set_seed(dict(module.named_buffers()), 7)
    set_step(dict(module.named_buffers()), 3)
    torch.testing.assert_close(module(torch.ones(64, 50)), alone, rtol=0, atol=0)


def test_global_random_streams_play_no_part() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = masks([7], step=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(masks([7], step=3), first)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_kept_and_the_scale(p: float) -> None:
    left = masks([11], step=1, p=p, shape=(400, 500))[0]
    assert (left > 0).double().mean().item() == pytest.approx(1 - p, abs=0.005)
    # The rate is a multiple of 1/65536, and so is what keeps the mean.
    rounded = round(p * 65536) / 65536
    assert left.unique().tolist() == pytest.approx([0.0, 1 / (1 - rounded)], rel=1e-7)


def test_the_numbers_are_uniform_and_the_four_of_a_hash_unrelated() -> None:
    count = 2**18
    keys = torch.tensor([3, 2**40 + 1, -5])
    numbers = sixteen(hashes(keys, count // 4), count)
    assert numbers.shape == (3, count)
    for own in numbers.unflatten(1, (-1, 4)).permute(0, 2, 1).flatten(0, 1):
        # Pearson's statistic of 255 degrees of freedom exceeds this once in a million.
        counts = torch.bincount((own.int() + 2**15) >> 8, minlength=256)
        low = torch.bincount(own.int() & 255, minlength=256)
        for found in (counts, low):
            assert float(((found - len(own) / 256) ** 2 / (len(own) / 256)).sum()) < 372
    drops = (numbers < -(2**14)).double()
    assert drops.mean(1).tolist() == pytest.approx([0.25] * 3, abs=5 * 0.433 / count**0.5)
    centred = drops - drops.mean(1, keepdim=True)
    for lag in (1, 2, 3, 4, 5, 8):
        correlation = (centred[:, lag:] * centred[:, :-lag]).mean(1) / 0.1875
        assert float(correlation.abs().max()) < 5 / count**0.5
    assert float(torch.corrcoef(drops).triu(1).abs().max()) < 5 / count**0.5


def test_a_mask_has_the_same_beginning_whatever_its_size() -> None:
    state = torch.tensor(7), torch.tensor(3), torch.tensor(0.4, dtype=torch.float64)
    whole = factors(*state, 1, 2**17 * 4 + 9, torch.float32)
    for count in (1, 2, 3, 4, 5, 1000, 2**17 + 1):
        assert torch.equal(factors(*state, 1, count, torch.float32), whole[:count])


def test_rates_near_the_ends() -> None:
    state = torch.tensor(7), torch.tensor(3)
    one = torch.tensor([0.0, 1e-9, 1.0 - 1e-9], dtype=torch.float64)
    found = factors(state[0].expand(3), state[1].expand(3), one, 1, 5000, torch.float64)
    assert torch.equal(found[:2], torch.ones(2, 5000, dtype=torch.float64))
    assert int((found[2] > 0).sum()) <= 2


def test_masks_of_other_seeds_steps_and_layers_are_unrelated() -> None:
    def kept(seed: int, step: int, layer: int) -> torch.Tensor:
        return (masks([seed], step, layer, p=0.5, shape=(200, 100))[0] > 0).double().flatten()

    base = kept(0, 0, 0)
    for other in (kept(1, 0, 0), kept(0, 1, 0), kept(0, 0, 1), kept(1, 1, 1), kept(2**31 - 1, 10**6, 9)):
        correlation = torch.corrcoef(torch.stack([base, other]))[0, 1].abs().item()
        assert correlation < 0.03  # 4 deviations of 20,000 coin pairs
    rows = base.reshape(200, 100)
    assert torch.corrcoef(torch.stack([rows[:-1].flatten(), rows[1:].flatten()]))[0, 1].abs().item() < 0.03


def test_evaluation_and_p_zero_keep_everything() -> None:
    x = torch.randn(5, 6)
    assert torch.equal(SeededDropout(0.0, 0)(x), x)
    assert SeededDropout(0.5, 0).eval()(x) is x


def test_gradients_pass_where_units_are_kept() -> None:
    x = torch.ones(30, 30, requires_grad=True)
    module = SeededDropout(0.5, 0)
    out = module(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out.detach())


def test_only_dropout_buffers_are_written() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), SeededDropout(0.5, 1), SeededDropout(0.5, 2))
    buffers = dict(model.named_buffers())
    set_step(buffers, 17)
    assert buffers["0.num_batches_tracked"].item() == 0
    assert [buffers[f"{i}.dropout_step"].item() for i in (1, 2)] == [17, 17]
