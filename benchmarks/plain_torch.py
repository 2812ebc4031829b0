"""A network as a user of plain torch would have it: torch's own recurrent and attention kernels, torch's own dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from optim_core.nn.blocks import Attention
from optim_core.nn.dropout import SeededDropout
from optim_core.nn.recurrent import GRU, LSTM, Recurrent


def plain(network: nn.Module) -> nn.Module:
    """The same network with the same weights; ``network`` itself is changed and may not be used any more."""
    return _with(
        network,
        (GRU, lambda cell: _recurrent(cell, nn.GRU)),
        (LSTM, lambda cell: _recurrent(cell, nn.LSTM)),
        (Attention, _FusedAttention),
        (SeededDropout, lambda layer: nn.Dropout(layer.p)),
    )


def _with(module: nn.Module, *swaps: tuple[type[nn.Module], Callable[[Any], nn.Module]]) -> nn.Module:
    for name, child in module.named_children():
        for kind, make in swaps:
            if isinstance(child, kind):
                setattr(module, name, make(child))
                break
        else:
            _with(child, *swaps)
    return module


def _recurrent(cell: Recurrent, kind: type[nn.GRU] | type[nn.LSTM]) -> nn.Module:
    weight = cell.weight_ih_l0
    inner = kind(cell.inputs, cell.width, batch_first=True).to(device=weight.device, dtype=weight.dtype)
    inner.load_state_dict(cell.state_dict())
    return _FirstOutput(inner)


class _FirstOutput(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class _FusedAttention(nn.Module):
    def __init__(self, own: Attention) -> None:
        super().__init__()
        self.heads = own.heads
        self.query, self.key, self.value, self.out = own.query, own.key, own.value, own.out

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, -1)
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))
