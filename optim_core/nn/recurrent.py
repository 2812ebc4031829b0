"""GRU and LSTM written out: torch's fused kernels have no rule for stacked weights.

Weights have the names, shapes and order of gates of torch's modules with one layer, so a ``state_dict`` fits both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Recurrent(nn.Module):
    """What both cells share: weights for the input and for the state, ``gates`` matrices of each stacked by rows.

    ``weight_ih_l0`` (gates * width, inputs), ``weight_hh_l0`` (gates * width, width), ``bias_ih_l0`` and ``bias_hh_l0``
    (gates * width,).
    """

    gates: int
    weight_role = "matrix"

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        rows = self.gates * width
        self.weight_ih_l0 = nn.Parameter(torch.empty(rows, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(rows, width))
        self.bias_ih_l0 = nn.Parameter(torch.empty(rows))
        self.bias_hh_l0 = nn.Parameter(torch.empty(rows))

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.width}"


class GRU(Recurrent):
    """Gated recurrent unit as ``nn.GRU(inputs, width, batch_first=True)``, from a state of zeros (arXiv 1406.1078)."""

    gates = 3

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, inputs) → the states after each step, (batch, steps, width)."""
        width, states = self.width, []
        # Everything that does not wait for the state, for all steps in one product.
        projected = F.linear(x, self.weight_ih_l0, self.bias_ih_l0)
        recurrent = self.weight_hh_l0.t()
        h = x.new_zeros(x.shape[0], width)
        for own in projected.unbind(1):
            gates_x, new_x = own.split((2 * width, width), dim=1)
            gates_h, new_h = torch.addmm(self.bias_hh_l0, h, recurrent).split((2 * width, width), dim=1)
            reset, update = (gates_x + gates_h).sigmoid().chunk(2, dim=1)
            h = torch.lerp(torch.addcmul(new_x, reset, new_h).tanh(), h, update)
            states.append(h)
        return torch.stack(states, dim=1)


class LSTM(Recurrent):
    """Long short-term memory as ``nn.LSTM(inputs, width, batch_first=True)``, from a state of zeros."""

    gates = 4

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, inputs) → the states after each step, (batch, steps, width)."""
        states = []
        projected = F.linear(x, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        recurrent = self.weight_hh_l0.t()
        h = c = x.new_zeros(x.shape[0], self.width)
        for own in projected.unbind(1):
            enter, forget, new, out = torch.addmm(own, h, recurrent).chunk(4, dim=1)
            c = torch.addcmul(forget.sigmoid() * c, enter.sigmoid(), new.tanh())
            h = out.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, dim=1)


class LastState(nn.Module):
    """(batch, steps, width) → the state after the last step, (batch, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]
