"""Dropout whose mask is a pure function of (seed, step, layer, element).

A mask drawn from a random stream depends on who drew before; this one does not, so a trial drops the same units alone,
in any pack and at any place in it, after a restart, and on every device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optim_core.counter import BITS, GAMMA, bits, mix

SEED = "dropout_seed"
STEP = "dropout_step"
RATE = "dropout_rate"


class SeededDropout(nn.Module):
    """Drops elements with its rate in training mode and scales the rest by 1 / (1 − rate).

    Args: p: the rate, in [0, 1); layer: a number unique in the model. Buffers ``dropout_seed`` and ``dropout_step`` are int64
    scalars, ``dropout_rate`` a float64 one; under ``vmap`` each trial has its own.
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
        keep = kept(self.dropout_seed, self.dropout_step, self.dropout_rate, self.layer, x.numel()).reshape(x.shape)
        return x * keep.to(x.dtype) / (1.0 - self.dropout_rate).to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}, layer={self.layer}"


def kept(seed: Tensor, step: Tensor, rate: Tensor, layer: int, count: int) -> Tensor:
    """Which of ``count`` elements stay: (…) seeds, steps and rates → (…, count) booleans."""
    key = mix(mix(seed * GAMMA + layer) + step * GAMMA)
    return bits(key, count) >= (rate * 2**BITS).round().unsqueeze(-1)


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
