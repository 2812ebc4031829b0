"""Random numbers of one step: a function of (trial's seed, step, number of the call in the step, element).

SplitMix64 (Steele, Lea & Flood 2014), read at any place: a seed and a step make the key, a call owns 2⁴⁰ places behind it.
Four numbers of 16 bits from each 64-bit hash decide what drops, two of 32 bits make all else: hashing is what costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from optim_core.counter import GAMMA, MIX_1, MIX_2, mix_, new_places, places, sixteen

_WORD = 2**64 - 1
# Places of one call.
_CALL_BITS = 40
# Numbers of one call that are made for all trials at once.
_FEW = 2**13
# Uniform numbers have no more bits than the narrowest dtype holds exactly, so that none is rounded up to 1.
_BITS = {torch.float16: 11, torch.bfloat16: 8}


def mixed(x: int) -> int:
    """A bijection of 64-bit numbers whose output bits look independent."""
    x &= _WORD
    x = ((x ^ (x >> 30)) * MIX_1) & _WORD
    x = ((x ^ (x >> 27)) * MIX_2) & _WORD
    return x ^ (x >> 31)


def key_of(seed: int, step: int) -> int:
    """Where the numbers of this seed and step begin."""
    return mixed(mixed(seed * GAMMA) + step * GAMMA)


class Draws:
    """The numbers of K trials at one step. Each method is one call, and returns (K, count)."""

    def __init__(self, seeds: Sequence[int], step: int, device: torch.device) -> None:
        self.keys = [key_of(seed, step) for seed in seeds]
        self._device = device
        self.calls = 0

    @cached_property
    def start(self) -> Tensor:
        """(K, 1) int64: where each trial's numbers begin. Not every step draws."""
        return torch.tensor([_signed(key) for key in self.keys], device=self._device).unsqueeze(1)

    @property
    def count(self) -> int:
        """K."""
        return len(self.keys)

    def one_by_one(self) -> list[Draws]:
        """The numbers of each trial by itself, from here on."""
        if self.count == 1:
            return [self]
        made: dict[tuple[Any, ...], Any] = {}
        return [_OneOf(self, k, made) for k in range(self.count)]

    def kept(self, rate: float, count: int) -> tuple[Tensor, float]:
        """Which elements stay, as bools, and what those are multiplied with: rates are rounded to 1/65536, and the mean
        stays what it was.
        """
        threshold = min(max(round(rate * 2**16), 0), 2**16)
        numbers = sixteen(self._hashes(-(-count // 4)), count)
        # A full range of 16 bits has no room for a threshold above all numbers.
        keep = numbers >= threshold - 2**15 if threshold < 2**16 else torch.zeros_like(numbers, dtype=torch.bool)
        return keep, 2**16 / (2**16 - threshold) if threshold < 2**16 else 0.0

    def uniform(self, count: int, dtype: torch.dtype) -> Tensor:
        """In [0, 1), of 24 bits or what ``dtype`` holds."""
        bits = _BITS.get(dtype, 24)
        words = (self._words(count) >> (32 - bits)) + 2 ** (bits - 1)
        return words.to(dtype) * 2.0**-bits

    def inside(self, count: int) -> Tensor:
        """In (0, 1), both ends left out, float64, of 32 bits."""
        return (self._words(count).double() + (2**31 + 0.5)) * 2.0**-32

    def normal(self, count: int) -> Tensor:
        """Standard normal, float64, by Box & Muller 1958: both numbers of each pair are used."""
        pairs = self._words(count + count % 2).double().unflatten(1, (-1, 2))
        radius = ((pairs[..., 0] + (2**31 + 0.5)) * 2.0**-32).log_().mul_(-2).sqrt_()
        angle = pairs[..., 1] * (math.pi * 2.0**-31)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(1)[:, :count]

    def integers(self, count: int, low: int, high: int) -> Tensor:
        """In [low, high), int64; at most 2³¹ different ones."""
        return low + (((self._words(count).long() + 2**31) * (high - low)) >> 32)

    def order(self, count: int) -> Tensor:
        """A permutation of ``count`` numbers, int64."""
        return self._hashes(count).argsort(dim=1)

    def _words(self, count: int) -> Tensor:
        return self._hashes(-(-count // 2)).view(torch.int32)[:, :count]

    def _hashes(self, count: int) -> Tensor:
        start = _signed((self.calls << _CALL_BITS) * GAMMA)
        self.calls += 1
        return mix_(self._places(count) + (self.start + start))

    def _places(self, count: int) -> Tensor:
        return places(count, self._device)


class StartedDraws(Draws):
    """The same numbers from ``Draws.start`` alone: what a recorded step is given in place of seeds and a number."""

    def __init__(self, start: Tensor) -> None:
        self.keys, self._device, self.start, self.calls = [], start.device, start, 0
        self._made: dict[int, Tensor] = {}

    @property
    def count(self) -> int:
        """See ``Draws``."""
        return len(self.start)

    def _places(self, count: int) -> Tensor:
        # What is made while a step is recorded means nothing outside of the recording.
        if count not in self._made:
            self._made[count] = new_places(count, self._device)
        return self._made[count]


class _OneOf(Draws):
    """One trial among others that will want numbers for the same calls: made for all when the first one asks, since a few
    numbers cost as much as K times as many.
    """

    def __init__(self, all_of_them: Draws, k: int, made: dict[tuple[Any, ...], Any]) -> None:
        self.keys, self._device, self.calls = all_of_them.keys[k : k + 1], all_of_them._device, all_of_them.calls
        self._all, self._made, self._span = all_of_them, made, slice(k, k + 1)

    @cached_property
    def start(self) -> Tensor:
        """See ``Draws``."""
        return self._all.start[self._span]

    @property
    def count(self) -> int:
        """See ``Draws``."""
        return 1

    def _places(self, count: int) -> Tensor:
        return self._all._places(count)

    def kept(self, rate: float, count: int) -> tuple[Tensor, float]:
        found = self._of_all("kept", count, rate, count)
        return super().kept(rate, count) if found is None else (found[0][self._span], found[1])

    def uniform(self, count: int, dtype: torch.dtype) -> Tensor:
        found = self._of_all("uniform", count, count, dtype)
        return super().uniform(count, dtype) if found is None else found[self._span]

    def inside(self, count: int) -> Tensor:
        found = self._of_all("inside", count, count)
        return super().inside(count) if found is None else found[self._span]

    def normal(self, count: int) -> Tensor:
        found = self._of_all("normal", count, count)
        return super().normal(count) if found is None else found[self._span]

    def _of_all(self, name: str, count: int, *args: Any) -> Any:
        """What all trials draw at this call; nothing where that would be too much to keep until the last has asked."""
        if count > _FEW:
            return None
        key = (self.calls, name, *args)
        if key not in self._made:
            self._all.calls = self.calls
            self._made[key] = getattr(self._all, name)(*args)
        self.calls += 1
        return self._made[key]


def _signed(x: int) -> int:
    """The same 64 bits as a signed number, which is what torch has."""
    x &= _WORD
    return x - 2**64 if x >= 2**63 else x
