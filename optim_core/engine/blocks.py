"""The weights of K networks in a few pieces of memory, and their gradients in as many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from optim_core.alignment import rounded, shaped
from optim_core.transforms.groups import Groups

Weights = dict[str, Tensor]
# On a CPU a weight of so many numbers has a block of its own: products of K matrices want them one after the other. On a GPU
# fewer blocks are fewer kernels.
LARGE = 1024


class Blocks:
    """Blocks of memory, (K, n) each: one for every large weight, and one for the other weights of each parameter group.

    ``weights`` and ``slots`` are views of the blocks by name, (K, *shape): what the network reads, and where it writes
    gradients. Between them are zeros, so that each starts at a boundary (``alignment``). A method that does not care how
    weights are cut updates whole blocks. ``index``: block → parameter group.
    """

    def __init__(self, start: Mapping[str, Tensor], groups: Groups) -> None:
        self._shapes = {name: p.shape[1:] for name, p in start.items()}
        # Block → its weights, and the columns of each.
        self._columns: dict[str, dict[str, slice]] = {}
        self.index: dict[str, int] = {}
        like = next(iter(start.values()))
        for name, shape in self._shapes.items():
            group = groups.index[name]
            block = name if shape.numel() >= LARGE and like.device.type == "cpu" else f"group{group}"
            columns = self._columns.setdefault(block, {})
            first = _width(columns.values(), like.dtype)
            columns[name] = slice(first, first + shape.numel())
            self.index[block] = group
        widths = {block: _width(own.values(), like.dtype) for block, own in self._columns.items()}
        self.data = {block: like.new_zeros(len(like), width) for block, width in widths.items()}
        self.gradients = {block: torch.zeros_like(x) for block, x in self.data.items()}
        self.weights, self.slots = self.cut(self.data), self.cut(self.gradients)
        for name, p in start.items():
            self.weights[name].copy_(p)

    def cut(self, blocks: Mapping[str, Tensor]) -> Weights:
        """Blocks of k trials, (k, n) → views by weight, (k, *shape)."""
        return {
            name: shaped(blocks[block][:, columns], self._shapes[name])
            for block, own in self._columns.items()
            for name, columns in own.items()
        }


def _width(columns: Iterable[slice], dtype: torch.dtype) -> int:
    return rounded(max((part.stop for part in columns), default=0), dtype)
