"""Memory that gives a matrix product the same last bits wherever a trial lies among others.

Libraries take other instructions for numbers that do not start at a boundary of a vector register, and then sum in another
order. Of trials that follow each other without gaps, each may start somewhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The narrowest vector register, bytes. Products of every shape that was tried depend on nothing wider.
BOUNDARY = 16


def rounded(count: int, dtype: torch.dtype) -> int:
    """``count`` numbers and the gap behind them, up to the next boundary."""
    return -(-count // _step(dtype)) * _step(dtype)


def aligned(x: Tensor) -> Tensor:
    """(K, …) with each trial at a boundary: ``x`` itself where it is so, else a copy."""
    step = _step(x.dtype)
    if not x.is_cpu or (x.storage_offset() % step == 0 and (len(x) == 1 or x.stride(0) % step == 0)):
        return x
    return _empty(x, x.shape).copy_(x)


def product(left: Tensor, right: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """(K, a, b) · (K, b, c), or two matrices without trials. With trials, ``plus`` is added, which broadcasts to the product,
    and the result written into ``out``.
    """
    if left.ndim == 2:
        return left @ right
    shape = (len(left), left.shape[1], right.shape[2])
    if out is None and left.is_cpu and shape[1] * shape[2] % _step(left.dtype):
        out = _empty(left, shape)
    left, right = aligned(left), aligned(right)
    return torch.bmm(left, right, out=out) if plus is None else torch.baddbmm(plus, left, right, out=out)


def _step(dtype: torch.dtype) -> int:
    """Numbers from one boundary to the next."""
    return BOUNDARY // dtype.itemsize


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    k, *own = shape
    count = torch.Size(own).numel()
    return shaped(like.new_empty(k, rounded(count, like.dtype))[:, :count], own)


def shaped(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """(k, n) as (k, *shape), a view. A weight without axes has one column."""
    return columns.unflatten(1, shape) if shape else columns.squeeze(1)
