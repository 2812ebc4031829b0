"""Category columns of K trials: one lookup for all columns and trials."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.nn.categories import CategoryColumns
from optim_core.stacked.base import Back, Context, Layer
from optim_core.stacked.dense import aten


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
            tables, places = len(codes), (codes if len(codes) == 1 else own).flatten()
            each = k // tables
            rows = dy[:, first:].reshape(tables, each, columns, width, batch).permute(0, 2, 4, 1, 3)
            found = _summed(places, rows.reshape(len(places), -1), tables * size)
            slot.copy_(found.view(tables, size, each, width).transpose(1, 2).reshape(slot.shape))
        # Codes have no gradient, and nothing comes before them.
        return None

    return y, back


def _summed(places: Tensor, rows: Tensor, count: int) -> Tensor:
    """(count, width): the sum of the rows of each place, in the way of the device that gives the same bits every time."""
    found = rows.new_zeros(count, rows.shape[1])
    if rows.is_cpu:
        return found.index_add_(0, places, rows)
    return found.index_put_((places,), rows, accumulate=True)
