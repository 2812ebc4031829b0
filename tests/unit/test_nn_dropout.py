"""Dropout masks depend on seed, step, layer and element, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from optim_core.nn.dropout import SeededDropout, set_seed, set_step


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
    assert left.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])


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
