"""From a network as data (``networks``) to torch's modules."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from optim_core.networks import Network, Part
from optim_core.nn.blocks import Attention, FeatureTokens, ImageRows, Mean, Positions, Residual
from optim_core.nn.categories import CategoryColumns
from optim_core.nn.dropout import SeededDropout
from optim_core.nn.recurrent import GRU, LSTM, LastState

_MODULES: dict[str, Callable[..., nn.Module]] = {
    one.__name__: one
    for one in (
        nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d,
        nn.GroupNorm, nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, SeededDropout, Attention, FeatureTokens,
        ImageRows, Mean, Positions, CategoryColumns, GRU, LSTM, LastState,
    )
}  # fmt: skip


def build(network: Network) -> nn.Sequential:
    """The modules of ``network``, one after the other, with torch's own initial weights."""
    return _sequence(network.parts)


def _sequence(parts: tuple[Part, ...]) -> nn.Sequential:
    return nn.Sequential(*map(_module, parts))


def _module(part: Part) -> nn.Module:
    if part.kind == "Sequential":
        return _sequence(part.inner)
    if part.kind == "Residual":
        return Residual(_sequence(part.inner), None if part.shortcut is None else _module(part.shortcut))
    return _MODULES[part.kind](*part.args)
