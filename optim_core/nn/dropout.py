"""Dropout whose mask is a pure function of (seed, step, layer, element).

A mask drawn from a random stream depends on who drew before; this one does not, so a trial drops the same units alone,
in any pack and at any place in it, after a restart, and on every device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optim_core.counter import GAMMA, hashes, mix, sixteen

SEED = "dropout_seed"
STEP = "dropout_step"
RATE = "dropout_rate"


class SeededDropout(nn.Module):
    """Drops elements with its rate, a multiple of 1/65536, in training mode and scales the rest so that the mean stays.

    Args: p: the rate, in [0, 1), which is rounded; layer: a number unique in the model. Buffers ``dropout_seed`` and
    ``dropout_step`` are int64 scalars, ``dropout_rate`` a float64 one; under ``vmap`` each trial has its own.
    """

    dropout_seed: Tensor
    dropout_step: Tensor
    dropout_rate: Tensor

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.register_buffer(SEED, torch.zeros((), dtype=torch.int64))
        self.register_buffer(STEP, torch.zeros((), dtype=torch.int64))
        self.register_buffer(RATE, torch.full((), p, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape; the first axis is the place in the batch."""
        if not self.training:
            return x
        state = self.dropout_seed, self.dropout_step, self.dropout_rate
        return x * factors(*state, self.layer, x.numel(), x.dtype).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"p={self.p}, layer={self.layer}"


def factors(seed: Tensor, step: Tensor, rate: Tensor, layer: int, count: int, dtype: torch.dtype) -> Tensor:
    """What to multiply ``count`` elements with, 0 for those that are dropped: (…) seeds, steps and rates → (…, count)."""
    key = mix(mix(seed * GAMMA + layer) + step * GAMMA)
    # 16 bits have no room for a threshold above all numbers.
    drops = (rate * 2**16).round().clamp(max=2**16 - 1).unsqueeze(-1)
    keep = sixteen(hashes(key, -(-count // 4)), count) >= (drops - 2**15).to(torch.int16)
    return keep.to(dtype) * (2**16 / (2**16 - drops)).to(dtype)


def set_seed(buffers: Mapping[str, Tensor], seed: int | Tensor) -> None:
    """Write the trial's seed (or (K,) seeds into stacked buffers) into every dropout layer, in place."""
    _write(buffers, SEED, torch.as_tensor(seed, dtype=torch.int64))


def set_step(buffers: Mapping[str, Tensor], step: int | Tensor) -> None:
    """Write the step about to be taken into every dropout layer, in place; plain or stacked (K,) buffers alike."""
    _write(buffers, STEP, torch.as_tensor(step, dtype=torch.int64))


def set_rate(buffers: Mapping[str, Tensor], rate: float | Tensor) -> None:
    """Write the rate (or (K,) rates) into every dropout layer, in place."""
    _write(buffers, RATE, torch.as_tensor(rate, dtype=torch.float64))


def _write(buffers: Mapping[str, Tensor], name: str, value: Tensor) -> None:
    for key, buffer in buffers.items():
        if key.rpartition(".")[2] == name:
            buffer.copy_(value)
