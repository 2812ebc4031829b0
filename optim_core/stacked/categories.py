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
    codes = x[:, first:].long()
    own = codes + torch.arange(0, k * size, size, device=x.device).view(k, 1, 1)
    vectors = aten.embedding(table.reshape(k * size, width), own)
    y = x.new_empty(k, first + columns * width, batch)
    y[:, :first] = x[:, :first]
    y[:, first:].unflatten(1, (columns, width)).copy_(vectors.mT)
    if context.slots is None:
        return y, None

    def back(dy: Tensor) -> Tensor | None:
        if (slot := context.slot(name)) is not None:
            # Trials with the same codes take the places of a table's columns, so that few long rows are added up.
            tables = len(codes)
            places, shape = (codes if tables == 1 else own).flatten(), (tables, size, k // tables, width)
            rows = dy[:, first:].reshape(tables, k // tables, columns, width, batch).permute(0, 2, 4, 1, 3)
            found = dy.new_zeros(tables * size, k // tables * width)
            # Unlike adding by index, the same to the last bit every time on a GPU too.
            found.index_put_((places,), rows.reshape(len(places), -1), accumulate=True)
            slot.copy_(found.view(shape).transpose(1, 2).reshape(slot.shape))
        # Codes have no gradient, and nothing comes before them.
        return None

    return y, back
