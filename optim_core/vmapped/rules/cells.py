"""The recurrent cells of torch for K trials: one step each, and the functions of single cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from optim_core.vmapped.rules.base import Rule, Trials, lowers_precision
from optim_core.vmapped.rules.dense import Products

# (K, batch, width) each; the first is what the layer gives.
State = tuple[Tensor, ...]


class Cell(Protocol):
    """A kind of cell. ``weights`` are those of one layer and direction: input, hidden, and the two biases if there are any."""

    def inputs(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        """(K, n, in) → what the steps need of all inputs, (K, n, gates·width)."""
        ...

    def step(self, inputs: Tensor, state: State, weights: list[Tensor]) -> State:
        """The next state."""
        ...


class _Summed:
    """Cells that need no more than the sum of what comes from the input and from the state."""

    def inputs(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        return Products.apply(x, weights[0], weights[2] + weights[3] if len(weights) == 4 else None)

    @staticmethod
    def gates(inputs: Tensor, state: State, weights: list[Tensor]) -> Tensor:
        return torch.baddbmm(inputs, state[0], weights[1].mT)


class LSTM(_Summed):
    def step(self, inputs: Tensor, state: State, weights: list[Tensor]) -> State:
        i, f, g, o = self.gates(inputs, state, weights).chunk(4, -1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Simple(_Summed):
    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self._activation = activation

    def step(self, inputs: Tensor, state: State, weights: list[Tensor]) -> State:
        return (self._activation(self.gates(inputs, state, weights)),)


class GRU:
    def inputs(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        return Products.apply(x, weights[0], weights[2] if len(weights) == 4 else None)

    def step(self, inputs: Tensor, state: State, weights: list[Tensor]) -> State:
        (h,) = state
        hidden = torch.bmm(h, weights[1].mT)
        if len(weights) == 4:
            hidden = hidden + weights[3].unsqueeze(1)
        (i_r, i_z, i_n), (h_r, h_z, h_n) = inputs.chunk(3, -1), hidden.chunk(3, -1)
        reset, update = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        new = torch.tanh(i_n + reset * h_n)
        return (new + update * (h - new),)


TANH, RELU = Simple(torch.tanh), Simple(torch.relu)


def _single(cell: Cell) -> Rule:
    def rule(
        trials: Trials,
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        if not trials.raw(w_ih)[1] or input.ndim != 2 or lowers_precision(input):
            return NotImplemented
        given = hx if isinstance(hx, list | tuple) else (hx,)
        weights = [trials.wide(w) for w in (w_ih, w_hh, b_ih, b_hh) if w is not None]
        state = cell.step(cell.inputs(trials.wide(input), weights), tuple(trials.wide(one) for one in given), weights)
        wrapped = tuple(trials.wrap(one) for one in state)
        return wrapped if isinstance(hx, list | tuple) else wrapped[0]

    return rule


RULES: dict[Any, Rule] = {
    torch.lstm_cell: _single(LSTM()),
    torch.gru_cell: _single(GRU()),
    torch.rnn_tanh_cell: _single(TANH),
    torch.rnn_relu_cell: _single(RELU),
}
