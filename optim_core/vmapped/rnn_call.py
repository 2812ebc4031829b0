"""How torch's recurrent functions are called: one list of arguments for padded and for packed sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped.source import Source


@dataclass(frozen=True)
class Call:
    """A call of ``torch.lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``. ``sizes``: of a packed sequence, rows of each step;
    ``state``: (layers·directions, batch, width) each; ``per``: weights of a layer and direction.
    """

    x: Tensor
    sizes: Tensor | None
    state: tuple[Tensor, ...]
    is_pair: bool
    weights: list[Tensor]
    has_biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def per(self) -> int:
        return len(self.weights) // (self.layers * self.directions)

    @property
    def drops(self) -> bool:
        """Whether there is dropout between layers."""
        return self.dropout > 0.0 and self.train and self.layers > 1


def call_of(args: tuple[Any, ...]) -> Call:
    """The arguments by name."""
    packed = isinstance(args[3], list | tuple)
    x, *rest = args
    sizes = rest.pop(0) if packed else None
    state, weights, has_biases, layers, dropout, train, bidirectional, *first = rest
    is_pair = isinstance(state, list | tuple)
    return Call(
        x,
        sizes,
        tuple(state) if is_pair else (state,),
        is_pair,
        list(weights),
        has_biases,
        layers,
        dropout,
        train,
        bidirectional,
        bool(first and first[0]),
    )


def layered(source: Source, func: Callable[..., Any], *args: Any) -> Any:
    """The function layer by layer, with dropout between them drawn by ``source``; ``NotImplemented`` where none drops."""
    call = call_of(args)
    if not call.drops:
        return NotImplemented
    x = call.x.transpose(0, 1) if call.batch_first else call.x
    ends: list[tuple[Tensor, ...]] = []
    count = call.per * call.directions
    for layer in range(call.layers):
        if layer:
            x = x * source.mask(x.shape, call.dropout, x.dtype)
        own = slice(layer * call.directions, (layer + 1) * call.directions)
        state = tuple(one[own] for one in call.state)
        given = state if call.is_pair else state[0]
        weights = call.weights[layer * count : (layer + 1) * count]
        rest = (given, weights, call.has_biases, 1, 0.0, call.train, call.bidirectional)
        x, *end = func(x, *rest, False) if call.sizes is None else func(x, call.sizes, *rest)
        ends.append(tuple(end))
    x = x.transpose(0, 1) if call.batch_first else x
    return x, *(torch.cat(column) for column in zip(*ends, strict=True))
