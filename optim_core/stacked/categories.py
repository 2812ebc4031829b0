"""Category columns of K trials: one lookup for all columns and trials."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten
from optim_core.tasks.categories import CategoryColumns


def category_columns(layer: Layer, x: Tensor, context: Context) -> tuple[Tensor, Back | None]:
    """(K, numbers + columns, batch) with codes → (K, numbers + columns·width, batch) with their vectors."""
    module, name = layer.module, layer.names["weight"]
    assert isinstance(module, CategoryColumns)
    table, first = context.tensor(name), module.numbers
    k, size, width = table.shape
    columns, batch = x.shape[1] - first, x.shape[2]
    codes = x[:, first:].long() + torch.arange(0, k * size, size, device=x.device).view(k, 1, 1)
    vectors = aten.embedding(table.reshape(k * size, width), codes)
    y = x.new_empty(k, first + columns * width, batch)
    y[:, :first] = x[:, :first]
    y[:, first:].unflatten(1, (columns, width)).copy_(vectors.mT)
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(name)) is not None:
            rows = dy[:, first:].unflatten(1, (columns, width)).mT.contiguous()
            slot.copy_(aten.embedding_dense_backward(rows, codes, k * size, -1, False).view(k, size, width))
        # Codes have no gradient, and nothing comes before them.
        return None

    return y, back
