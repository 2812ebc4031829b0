"""Batch-norm statistics at a point that was not trained at: measured there, not inherited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from optim_core.transforms.torch_private import BatchNorm

# One large batch is enough for a mean and a variance per channel.
MEASURED_ROWS = 1024


def norms_of(model: nn.Module) -> list[BatchNorm]:
    """The layers with running statistics."""
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


@contextmanager
def measure(model: nn.Module) -> Iterator[None]:
    """Inside, a forward pass replaces the running statistics by those of its batch; nothing else is in training mode."""
    norms = norms_of(model)
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
