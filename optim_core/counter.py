"""Random numbers as a pure function of (key, place): no stream, so nothing depends on who drew before.

SplitMix64 (Steele, Lea & Flood 2014) on signed 64-bit integers, whose products wrap alike on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAMMA = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685
BITS = 24


def mix(x: Tensor) -> Tensor:
    """A bijection of int64 whose output bits look independent."""
    x = (x ^ _logical_shift(x, 30)) * _MIX_1
    x = (x ^ _logical_shift(x, 27)) * _MIX_2
    return x ^ _logical_shift(x, 31)


def bits(key: Tensor, count: int) -> Tensor:
    """Uniform integers in [0, 2²⁴). ``key``: int64 of any shape (…); returns (…, count)."""
    index = torch.arange(count, device=key.device, dtype=torch.int64)
    return _logical_shift(mix(index * GAMMA + key.unsqueeze(-1)), 64 - BITS)


def normal(key: Tensor, count: int) -> Tensor:
    """Standard normal numbers, float64, by Box & Muller 1958: (…) keys → (…, count)."""
    first = (bits(key, count).double() + 0.5) / 2**BITS
    second = bits(mix(key + GAMMA), count).double() / 2**BITS
    return (-2 * first.log()).sqrt() * torch.cos(2 * math.pi * second)


def _logical_shift(x: Tensor, places: int) -> Tensor:
    # The sign bit must not be smeared: 64-bit integers of torch are signed.
    return (x >> places) & ((1 << (64 - places)) - 1)
