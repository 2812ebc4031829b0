"""Dropout whose mask is a pure function of (seed, step, layer, element).

A mask drawn from a random stream depends on who drew before; this one does not, so a trial drops the same units alone,
in any pack and at any place in it, after a restart, and on every device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

SEED = "dropout_seed"
STEP = "dropout_step"
# SplitMix64 (Steele, Lea, Flood 2014): the constants as signed 64-bit integers, whose products wrap alike everywhere.
_GAMMA = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685
_BITS = 24


class SeededDropout(nn.Module):
    """Drops elements with probability ``p`` in training mode and scales the rest by 1 / (1 − p).

    Args: p: in [0, 1); layer: a number unique in the model. Buffers ``dropout_seed`` and ``dropout_step`` are int64
    scalars; under ``vmap`` each trial has its own.
    """

    dropout_seed: Tensor
    dropout_step: Tensor

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.register_buffer(SEED, torch.zeros((), dtype=torch.int64))
        self.register_buffer(STEP, torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape; the first axis is the place in the batch."""
        if not self.training or self.p == 0.0:
            return x
        key = _mix(_mix(self.dropout_seed * _GAMMA + self.layer) + self.dropout_step * _GAMMA)
        index = torch.arange(x.numel(), device=x.device, dtype=torch.int64)
        bits = _logical_shift(_mix(index * _GAMMA + key), 64 - _BITS)
        keep = bits.reshape(x.shape) >= round(self.p * 2**_BITS)
        return x * keep.to(x.dtype) / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, layer={self.layer}"


def set_seed(buffers: Mapping[str, Tensor], seed: int | Tensor) -> None:
    """Write the trial's seed (or (K,) seeds into stacked buffers) into every dropout layer, in place."""
    _write(buffers, SEED, seed)


def set_step(buffers: Mapping[str, Tensor], step: int | Tensor) -> None:
    """Write the step about to be taken into every dropout layer, in place; plain or stacked (K,) buffers alike."""
    _write(buffers, STEP, step)


def _write(buffers: Mapping[str, Tensor], name: str, value: int | Tensor) -> None:
    for key, buffer in buffers.items():
        if key.rpartition(".")[2] == name:
            buffer.copy_(torch.as_tensor(value, dtype=torch.int64))


def _logical_shift(x: Tensor, places: int) -> Tensor:
    # The sign bit must not be smeared: 64-bit integers of torch are signed.
    return (x >> places) & ((1 << (64 - places)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _logical_shift(x, 30)) * _MIX_1
    x = (x ^ _logical_shift(x, 27)) * _MIX_2
    return x ^ _logical_shift(x, 31)
