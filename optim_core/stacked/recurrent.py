"""GRU and LSTM of K trials: all trials take a time step together, backward is written out.

Inside, sequences are (K, steps, batch, numbers), so that what does not wait for the state is one product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optim_core.alignment import aligned
from optim_core.nn.recurrent import Recurrent
from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Gradients(NamedTuple):
    """Of the projections of the input and of the state: neighbouring rows of their weights, each (K, steps, batch, rows)."""

    of_input: tuple[Tensor, ...]
    of_state: tuple[Tensor, ...]


# Gradient of the states (K, steps, batch, width) → gradients of both projections.
CellBack = Callable[[Tensor], Gradients]


class _Run(NamedTuple):
    states: Tensor
    back: CellBack


def gru(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """r, z = σ(…); n = tanh(W·x + b + r∘(U·h + c)); h = n + z∘(h − n), as ``nn.recurrent.GRU``."""
    return _recurrent(layer, x, context, _gru_cell)


def lstm(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """i, f, o = σ(…), g = tanh(…); c = f∘c + i∘g; h = o∘tanh(c), as ``nn.recurrent.LSTM``."""
    return _recurrent(layer, x, context, _lstm_cell)


def _recurrent(
    layer: Layer, x: Tensor, context: Context, cell: Callable[[Tensor, Tensor, Tensor, int], _Run]
) -> tuple[Tensor, Back | None]:
    module = layer.module
    assert isinstance(module, Recurrent)
    names = [layer.names[name] for name in WEIGHTS]
    inward, around, bias_in, bias_around = (context.tensor(name) for name in names)
    k, steps, batch = len(inward), x.shape[2], x.shape[1]
    rows = aligned(x.transpose(1, 2).flatten(1, 2))
    rows = rows if len(rows) == k else rows.expand(k, -1, -1)
    projected = torch.baddbmm(bias_in.unsqueeze(1), rows, inward.mT).unflatten(1, (steps, batch))
    run = cell(projected, around, bias_around, module.width)
    if context.slots is None:
        return run.states.transpose(1, 2), None
    slots = [context.slot(name) for name in names]

    def back(dy: Tensor) -> Tensor | None:
        of_input, of_state = run.back(dy.transpose(1, 2))
        states = run.states.flatten(1, 2)
        _weight_gradients(of_input, rows, slots[0], slots[2])
        # The first step has a state of zeros in front of it.
        _weight_gradients([d[:, 1:] for d in of_state], states[:, : (steps - 1) * batch], slots[1], None)
        _weight_gradients(of_state, None, None, slots[3])
        if not layer.wants:
            return None
        dx, first = None, 0
        for d in of_input:
            matrix = inward[:, first : first + d.shape[-1]]
            first += d.shape[-1]
            flat = d.flatten(1, 2)
            dx = torch.bmm(flat, matrix) if dx is None else dx.baddbmm_(flat, matrix)
        assert dx is not None
        return dx.unflatten(1, (steps, batch)).transpose(1, 2)

    return run.states.transpose(1, 2), back


def _weight_gradients(
    gradients: Sequence[Tensor], factor: Tensor | None, matrix: Tensor | None, bias: Tensor | None
) -> None:
    """Write d(matrix) = gradientᵀ·factor and d(bias) = Σ gradient into their slots, rows part by part."""
    first = 0
    for d in gradients:
        last, flat = first + d.shape[-1], d.flatten(1, 2)
        if matrix is not None and factor is not None:
            torch.bmm(flat.mT, factor, out=matrix[:, first:last])
        if bias is not None:
            torch.sum(flat, 1, out=bias[:, first:last])
        first = last


def _gru_cell(projected: Tensor, around: Tensor, bias: Tensor, width: int) -> _Run:
    k, steps, batch, _ = projected.shape
    two = 2 * width
    # What the bias of the state adds to the gates does not wait for it either.
    projected[..., :two] += bias[:, None, None, :two]
    # Used in every step: in the order that its product likes.
    bias_new, recurrent = bias[:, None, two:], around.mT.contiguous()
    states, gates = projected.new_empty(k, steps, batch, width), projected.new_empty(k, steps, batch, two)
    # Views of every step, made at once: one by one they would cost as much as the arithmetic.
    at_gates, resets, updates = (part.unbind(1) for part in (gates, gates[..., :width], gates[..., width:]))
    news, at_states = projected[..., two:].unbind(1), states.unbind(1)
    inner = torch.empty_like(states).unbind(1)
    nothing = h = projected.new_zeros(k, batch, width)
    for t, own_gate in enumerate(projected[..., :two].unbind(1)):
        of_gate, held = torch.bmm(h, recurrent).split((two, width), -1)
        torch.add(own_gate, of_gate, out=at_gates[t]).sigmoid_()
        torch.add(held, bias_new, out=inner[t])
        # The input's share is not needed any more: the new state takes its place.
        news[t].addcmul_(resets[t], inner[t]).tanh_()
        h = torch.lerp(news[t], h, updates[t], out=at_states[t])

    def back(dy: Tensor) -> Gradients:
        # Reset, update and new state: what goes to the state. Of the input, only the last differs. They take the place of
        # the projection, whose gates are not needed any more, and whose new states are read before they are written.
        found, of_news = projected, torch.empty_like(states)
        whole, of_gates, of_held = (part.unbind(1) for part in (found, found[..., :two], found[..., two:]))
        of_reset, of_update = found[..., :width].unbind(1), found[..., width:two].unbind(1)
        each, at_dy = of_news.unbind(1), dy.unbind(1)
        dh = torch.zeros_like(h)
        for t in range(steps - 1, -1, -1):
            dh.add_(at_dy[t])
            kept = dh * updates[t]
            of_new = aten.tanh_backward.grad_input(dh - kept, news[t], grad_input=each[t])
            torch.mul(of_new, inner[t], out=of_reset[t])
            torch.sub(at_states[t - 1] if t else nothing, news[t], out=of_update[t]).mul_(dh)
            aten.sigmoid_backward.grad_input(of_gates[t], at_gates[t], grad_input=of_gates[t])
            torch.mul(of_new, resets[t], out=of_held[t])
            dh = kept.baddbmm_(whole[t], around)
        return Gradients((found[..., :two], of_news), (found,))

    return _Run(states, back)


def _lstm_cell(projected: Tensor, around: Tensor, bias: Tensor, width: int) -> _Run:
    k, steps, batch, _ = projected.shape
    projected = projected + bias.view(k, 1, 1, -1)
    states, gates = projected.new_empty(k, steps, batch, width), torch.empty_like(projected)
    cells, squashed = torch.empty_like(states), torch.empty_like(states)
    recurrent = around.mT.contiguous()
    h = c = projected.new_zeros(k, batch, width)
    for t in range(steps):
        gate = gates[:, t].copy_(torch.baddbmm(projected[:, t], h, recurrent))
        gate[..., : 2 * width].sigmoid_()
        gate[..., 2 * width : 3 * width].tanh_()
        gate[..., 3 * width :].sigmoid_()
        enter, forget, new, out = gate.chunk(4, dim=-1)
        c = torch.mul(forget, c, out=cells[:, t]).addcmul_(enter, new)
        h = torch.mul(out, torch.tanh(c, out=squashed[:, t]), out=states[:, t])

    def back(dy: Tensor) -> Gradients:
        found = torch.empty_like(gates)
        dh_later, dc = projected.new_zeros(k, batch, width), projected.new_zeros(k, batch, width)
        for t in range(steps - 1, -1, -1):
            dh = dh_later + dy[:, t]
            gate = gates[:, t]
            enter, forget, new, out = gate.chunk(4, dim=-1)
            before = cells[:, t - 1] if t else torch.zeros_like(dc)
            dc = dc + aten.tanh_backward(dh * out, squashed[:, t])
            own = found[:, t]
            torch.mul(dc, new, out=own[..., :width])
            torch.mul(dc, before, out=own[..., width : 2 * width])
            torch.mul(dh, squashed[:, t], out=own[..., 3 * width :])
            own[..., : 2 * width] = aten.sigmoid_backward(own[..., : 2 * width], gate[..., : 2 * width])
            own[..., 3 * width :] = aten.sigmoid_backward(own[..., 3 * width :], out)
            own[..., 2 * width : 3 * width] = aten.tanh_backward(dc * enter, new)
            dc = dc * forget
            dh_later = torch.bmm(own, around)
        return Gradients((found,), (found,))

    return _Run(states, back)


def last_state(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, batch, steps, width) → (K, width, batch): the state after the last step."""
    del layer
    shape = x.shape

    def back(dy: Tensor) -> Tensor:
        found = dy.new_zeros(shape)
        found[:, :, -1] = dy.mT
        return found

    return x[:, :, -1].mT.contiguous(), back if context.slots is not None else None
