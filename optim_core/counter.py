"""Random numbers as a pure function of (key, place): no stream, so nothing depends on who drew before.

SplitMix64 (Steele, Lea & Flood 2014) on signed 64-bit integers, whose products wrap alike on every device.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

GAMMA, MIX_1, MIX_2 = -7046029254386353131, -4658895280553007687, -7723592293110705685
BITS = 24
# Places that are kept for the next draw of the same size: so many at most, and on a CPU, where making them costs what hashing
# does. What is made while a GPU's graph is recorded holds nothing yet.
_KEPT = 2**17


def mix(x: Tensor) -> Tensor:
    """A bijection of int64 whose output bits look independent."""
    return mix_(x.clone())


def mix_(x: Tensor) -> Tensor:
    """``mix``, in place."""
    for shift, factor in ((30, MIX_1), (27, MIX_2)):
        x ^= _logical_shift(x, shift)
        x *= factor
    x ^= _logical_shift(x, 31)
    return x


def places(count: int, device: torch.device) -> Tensor:
    """(count,) int64: how far each place lies behind a key."""
    return _kept_places(count) if count <= _KEPT and device.type == "cpu" else new_places(count, device)


def new_places(count: int, device: torch.device) -> Tensor:
    """``places``, made anew."""
    return torch.arange(count, device=device, dtype=torch.int64) * GAMMA


@lru_cache(maxsize=32)
def _kept_places(count: int) -> Tensor:
    return new_places(count, torch.device("cpu"))


def hashes(key: Tensor, count: int) -> Tensor:
    """64 bits at each place. ``key``: int64 of any shape (…); returns (…, count)."""
    return mix_(places(count, key.device) + key.unsqueeze(-1))


def bits(hashed: Tensor) -> Tensor:
    """Uniform integers in [0, 2²⁴), the leading bits of each hash."""
    return _logical_shift(hashed, 64 - BITS)


def sixteen(hashed: Tensor, count: int) -> Tensor:
    """Uniform int16 numbers, four of each of (…, ⌈count/4⌉) hashes, since hashing is what costs: (…, count)."""
    return hashed.view(torch.int16)[..., :count]


def normal(key: Tensor, count: int) -> Tensor:
    """Standard normal numbers, float32, by Box & Muller 1958, two of each hash: (…) keys → (…, count).

    Any keys, those that count from 0 among them: SplitMix64 leaves a zero what it is, so they are mixed first.
    """
    hashed = hashes(mix(key + GAMMA), -(-count // 2))
    first, second = bits(hashed), bits(hashed << BITS)
    radius = (first.float() + 0.5).mul_(2.0**-BITS).log_().mul_(-2).sqrt_()
    angle = second.float().mul_(2 * math.pi * 2.0**-BITS)
    return torch.cat((radius * angle.cos(), radius * angle.sin()), -1)[..., :count]


def _logical_shift(x: Tensor, places: int) -> Tensor:
    # The sign bit must not be smeared: 64-bit integers of torch are signed.
    return (x >> places).bitwise_and_((1 << (64 - places)) - 1)
