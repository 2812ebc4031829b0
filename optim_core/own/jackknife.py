"""What each block of rows says about a number that is known only for many rows together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MOST_BLOCKS = 64


def blocks_of(rows: int, most: int = MOST_BLOCKS) -> list[Tensor]:
    """All rows dealt at random into at most so many blocks, which differ by one row at most: row numbers, ascending. The same
    at each call."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    return [block.sort().values for block in order.tensor_split(min(rows, most))]


def pseudo_values(metric: Callable[[Tensor], float], rows: int) -> np.ndarray:
    """(blocks,) float64 values whose mean is the metric of all rows and whose spread is its sampling error.

    ``metric``: of the rows of these numbers, (m,) int64, ascending. With n rows, m of them in block b, θ of all and θ_b of all
    but the block's: (nθ − (n − m)θ_b)/m (delete-m jackknife, Busing et al. 1999), each moved by the little that makes their
    mean θ where blocks differ in size. Of a mean over rows they are the blocks' means. At least two rows.
    """
    everything = torch.arange(rows)
    whole = metric(everything)
    values = []
    for block in blocks_of(rows):
        rest = torch.ones(rows, dtype=torch.bool)
        rest[block] = False
        without = metric(everything[rest])
        values.append((rows * whole - (rows - len(block)) * without) / len(block))
    found = np.array(values, dtype=np.float64)
    return found + (whole - found.mean())
