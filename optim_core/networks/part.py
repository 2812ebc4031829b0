"""A network as data: its layers with what they take and how many weights they have, before any tensor is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

# So many entries of a network in a line are shown, the rest counted.
MOST_SHOWN = 12


@dataclass(frozen=True)
class Part:
    """One layer, or a block of them. ``kind``: the name of its module's class, of ``torch.nn`` or ``optim_core.nn``; ``args``:
    what that takes; ``weights``: numbers that it trains, those of its ``inner`` layers aside. ``shortcut``: of a ``Residual``;
    ``lone``: of a batch norm, that a row gives it a single number a feature.
    """

    kind: str
    args: tuple[Any, ...] = ()
    weights: int = 0
    inner: tuple[Part, ...] = ()
    shortcut: Part | None = None
    lone: bool = False

    @property
    def parameter_count(self) -> int:
        """Weights with those of the inner layers."""
        return self.weights + sum(part.parameter_count for part in self._below)

    def leaves(self) -> Iterator[Part]:
        """The layers that have none inside, in order."""
        if not self._below:
            yield self
        for part in self._below:
            yield from part.leaves()

    @property
    def shown(self) -> str:
        """``Linear 64→10``."""
        return (
            f"{self.kind} {self.args[0]}→{self.args[1]}"
            if self.kind in ("Linear", "Conv2d", "Embedding")
            else self.kind
        )

    @property
    def _below(self) -> tuple[Part, ...]:
        return self.inner if self.shortcut is None else (*self.inner, self.shortcut)


@dataclass(frozen=True)
class Network:
    """``parts``: in the order in which a row goes through them."""

    parts: tuple[Part, ...]

    @property
    def parameter_count(self) -> int:
        """Weights to train."""
        return sum(part.parameter_count for part in self.parts)

    def leaves(self) -> Iterator[Part]:
        """All layers, in order."""
        for part in self.parts:
            yield from part.leaves()

    @property
    def line(self) -> str:
        """``Linear 64→64, ReLU, Linear 64→10``."""
        return in_a_line(part.shown for part in self.leaves())


def in_a_line(names: Iterable[str]) -> str:
    """Layers separated by commas, equal neighbours once with their number, of many the first."""
    layers = list(names)
    entries = [name if (n := len(list(same))) == 1 else f"{n} × {name}" for name, same in groupby(layers)]
    if len(entries) > MOST_SHOWN:
        return f"{', '.join(entries[: MOST_SHOWN - 1])} … ({len(layers)} layers)"
    return ", ".join(entries)


def linear(inputs: int, outputs: int, bias: bool = True) -> Part:
    """As ``nn.Linear``."""
    return Part("Linear", (inputs, outputs, bias), outputs * (inputs + bias))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True) -> Part:
    """As ``nn.Conv2d``, without dilation and groups."""
    weights = outputs * (inputs * kernel**2 + bias)
    return Part("Conv2d", (inputs, outputs, kernel, stride, padding, 1, 1, bias), weights)


def layer_norm(*shape: int) -> Part:
    """As ``nn.LayerNorm``: a weight and a bias for each number of a row."""
    size = 1
    for side in shape:
        size *= side
    return Part("LayerNorm", (shape,), 2 * size)


def group_norm(groups: int, channels: int) -> Part:
    """As ``nn.GroupNorm``."""
    return Part("GroupNorm", (groups, channels), 2 * channels)


def recurrent(kind: str, inputs: int, width: int) -> Part:
    """``GRU`` or ``LSTM``: matrices for input and state and two biases for each gate, as torch's of one layer."""
    gates = {"GRU": 3, "LSTM": 4}[kind]
    return Part(kind, (inputs, width), gates * width * (inputs + width + 2))


def attention(width: int, heads: int) -> Part:
    """``nn.blocks.Attention``: query, key, value and output."""
    return Part("Attention", (width, heads), inner=(linear(width, width),) * 4)
