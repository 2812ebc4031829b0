"""Category columns as embeddings: each code of each column has a vector, learned with the rest of the network."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CategoryColumns(nn.Module):
    """Puts a learned vector in the place of each category code; numbers pass unchanged.

    All columns share one table, ``weight`` (sum(cardinalities), width): the codes count on from column to column, as
    ``data.Arrays`` has them, so one lookup serves all columns and all trials whose batch is the same.

    Args: numbers: how many columns come before the codes; cardinalities: codes of each category column; width: length
    of a vector.
    """

    weight_role = "embedding"

    def __init__(self, numbers: int, cardinalities: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.numbers, self.cardinalities = numbers, cardinalities
        self.weight = nn.Parameter(torch.empty(sum(cardinalities), width))

    @property
    def width(self) -> int:
        """Features that come out."""
        return self.numbers + len(self.cardinalities) * self.weight.shape[1]

    def rare_rows(self) -> list[int]:
        """The rows of the table for rare and unseen categories: the first of each column."""
        return [end - size for end, size in zip(accumulate(self.cardinalities), self.cardinalities, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, numbers + columns), the codes as floats → (batch, numbers + columns * width)."""
        vectors = F.embedding(x[:, self.numbers :].long(), self.weight)
        return torch.cat([x[:, : self.numbers], vectors.flatten(1)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.numbers}, {self.cardinalities}, {self.weight.shape[1]}"
