"""Recurrent layers of K trials, in cells: padded and packed sequences, layers, directions, dropout between layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped.rnn_call import Call, call_of
from optim_core.vmapped.rules.base import Rule, Trials, lowers_precision
from optim_core.vmapped.rules.cells import GRU, LSTM, RELU, TANH, Cell, State
from optim_core.vmapped.rules.cells import RULES as SINGLE


def _recurrent(cell: Cell) -> Rule:
    def rule(trials: Trials, *args: Any) -> Any:
        call = call_of(args)
        if not any(trials.raw(w)[1] for w in call.weights) or lowers_precision(call.x):
            return NotImplemented
        # LSTMs with projections have one weight more.
        if call.per != (4 if call.has_biases else 2) or (call.sizes is not None and trials.raw(call.sizes)[1]):
            return NotImplemented
        return _run(trials, cell, call)

    return rule


def _run(trials: Trials, cell: Cell, call: Call) -> Any:
    x = trials.wide(call.x)
    batch = 0
    if call.sizes is None:
        x = x.transpose(1, 2) if call.batch_first else x
        steps, batch = x.shape[1:3]
        sizes = [batch] * steps
        x = x.reshape(trials.count, steps * batch, x.shape[-1])
    else:
        sizes = call.sizes.tolist()
    state = tuple(trials.wide(one) for one in call.state)
    weights = [trials.wide(w) for w in call.weights]
    ends: list[State] = []
    for layer in range(call.layers):
        if layer and call.drops:
            keep, scale = trials.draws.kept(call.dropout, x[0].numel())
            x = x * keep.to(x.dtype).mul_(scale).view(x.shape)
        outputs: list[Tensor] = []
        for direction in range(call.directions):
            j = layer * call.directions + direction
            own = weights[j * call.per : (j + 1) * call.per]
            y, end = _direction(cell, x, tuple(one[:, j] for one in state), own, sizes, backwards=direction == 1)
            outputs.append(y)
            ends.append(end)
        x = torch.cat(outputs, -1) if call.bidirectional else outputs[0]
    if call.sizes is None:
        x = x.view(trials.count, len(sizes), batch, -1)
        x = x.transpose(1, 2) if call.batch_first else x
    return trials.wrap(x), *(trials.wrap(torch.stack(column, 1)) for column in zip(*ends, strict=True))


def _direction(
    cell: Cell, x: Tensor, start: State, weights: list[Tensor], sizes: list[int], *, backwards: bool
) -> tuple[Tensor, State]:
    """Outputs (K, rows, width) and the last state of each sequence. Of ``sizes`` rows a step, the first go on: sequences are
    sorted by length.
    """
    parts = cell.inputs(x, weights).split(sizes, 1)
    order = range(len(sizes) - 1, -1, -1) if backwards else range(len(sizes))
    outputs: list[Tensor] = [x] * len(sizes)
    state = tuple(one[:, : sizes[order[0]]] for one in start)
    ended: list[State] = []
    for t in order:
        rows, now = sizes[t], state[0].shape[1]
        if rows < now:
            ended.append(tuple(one[:, rows:] for one in state))
            state = tuple(one[:, :rows] for one in state)
        elif rows > now:
            state = tuple(torch.cat([one, first[:, now:rows]], 1) for one, first in zip(state, start, strict=True))
        state = cell.step(parts[t], state, weights)
        outputs[t] = state[0]
    for rest in reversed(ended):
        state = tuple(torch.cat([one, end], 1) for one, end in zip(state, rest, strict=True))
    return torch.cat(outputs, 1), state


RULES: dict[Any, Rule] = {
    torch.lstm: _recurrent(LSTM()),
    torch.gru: _recurrent(GRU()),
    torch.rnn_tanh: _recurrent(TANH),
    torch.rnn_relu: _recurrent(RELU),
    **SINGLE,
}
