"""Networks: the catalogue and declared layers. A trial's network is built here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

import torch
from torch import nn

from optim_core.networks import describe
from optim_core.nn.dropout import SeededDropout, set_seed
from optim_core.nn.init import initialise
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import Model
from optim_core.tasks.models.modules import build

__all__ = ["make_networks", "outline"]


def outline(
    model: Model,
    shape: tuple[int, ...],
    outputs: int,
    *,
    cardinalities: tuple[int, ...] = (),
    always_dropout: bool = False,
) -> nn.Module:
    """The network without memory (on the ``meta`` device). Arguments and errors are those of ``networks.describe``."""
    described = describe(model, shape, outputs, cardinalities=cardinalities, always_dropout=always_dropout)
    with torch.device("meta"):
        return build(described)


def make_networks(
    model: Model,
    shape: tuple[int, ...],
    outputs: int,
    seeds: Iterable[int],
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    cardinalities: tuple[int, ...] = (),
    always_dropout: bool = False,
) -> Iterator[nn.Module]:
    """The network with the initial weights of each of ``seeds``; leaves every global random stream as it was.

    A network holds until the next one is asked for: one may be the other with new weights. Weights are drawn in float32 on
    the CPU, then converted: one seed means one start on every device and in every precision.
    """
    drawn = outline(model, shape, outputs, cardinalities=cardinalities, always_dropout=always_dropout)
    # As ``to_empty`` does, whose ``empty_like`` of what has no memory imports sympy first: half a second.
    drawn = drawn._apply(lambda x: torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="cpu"))
    as_drawn = dtype == torch.float32 and torch.device(device).type == "cpu"
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed(seed, "init"))
        with torch.no_grad():
            initialise(drawn, generator)
            _reset_buffers(drawn)
            set_seed(dict(drawn.named_buffers()), derive_seed(seed, "dropout"))
        yield drawn if as_drawn else deepcopy(drawn).to(device=device, dtype=dtype)


def _reset_buffers(network: nn.Module) -> None:
    """Buffers of a network made without memory hold garbage: zeros, and the running statistics of batch norm."""
    for buffer in network.buffers():
        buffer.zero_()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
        if isinstance(module, SeededDropout):
            module.dropout_rate.fill_(module.p)
