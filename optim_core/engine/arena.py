"""The weights of K networks in one piece of memory, gradients in another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optim_core.transforms.groups import Groups

Weights = dict[str, Tensor]


class Arena:
    """One row per trial, (K, numbers), weights of a parameter group next to each other.

    ``weights`` and ``slots`` are views of the rows by name, (K, *shape): what the network reads, and where it writes
    gradients. A method that does not care how weights are cut updates a group in one go, as a (K, n) tensor.
    """

    def __init__(self, start: Mapping[str, Tensor], groups: Groups) -> None:
        self._shapes = {name: p.shape[1:] for name, p in start.items()}
        self._names = sorted(start, key=lambda name: groups.index[name])
        first = next(iter(start.values()))
        total = sum(shape.numel() for shape in self._shapes.values())
        self.data = torch.empty(len(first), total, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.data)
        # Group → its columns.
        self.groups: dict[int, slice] = {}
        self._columns: dict[str, slice] = {}
        at = 0
        for name in self._names:
            after = at + self._shapes[name].numel()
            self._columns[name] = slice(at, after)
            group = groups.index[name]
            self.groups[group] = slice(self.groups[group].start if group in self.groups else at, after)
            at = after
        self.weights, self.slots = self.cut(self.data), self.cut(self.gradients)
        for name, p in start.items():
            self.weights[name].copy_(p)

    def cut(self, rows: Tensor) -> Weights:
        """(k, numbers) → views by name, (k, *shape)."""
        return {name: rows[:, self._columns[name]].unflatten(1, shape) for name, shape in self._shapes.items()}

    def flat(self, rows: Tensor) -> Weights:
        """(k, numbers) → views by group, (k, n)."""
        return {_name(group): rows[:, columns] for group, columns in self.groups.items()}

    def rows_of(self, flat: Mapping[str, Tensor]) -> Tensor:
        """The inverse of ``flat``, as a copy."""
        return torch.cat([flat[_name(group)] for group in self.groups], dim=1)

    @property
    def index(self) -> dict[str, int]:
        """Names that ``flat`` gives → group."""
        return {_name(group): group for group in self.groups}


def _name(group: int) -> str:
    return f"group{group}"
