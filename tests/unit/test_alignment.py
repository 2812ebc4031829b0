"""A product of a trial's matrices has the same bits wherever they lie among others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from optim_core.alignment import BOUNDARY, aligned, product, rounded

SIZES = st.sampled_from([1, 2, 3, 5, 8, 13, 16, 30, 64, 129])
DTYPES = st.sampled_from([torch.float32, torch.float64])


def copies(matrix: Tensor, gap: int) -> Tensor:
    """The same matrix nine times, ``gap`` numbers between one and the next."""
    memory = matrix.new_zeros(9, matrix.numel() + gap)
    return memory[:, : matrix.numel()].view(9, *matrix.shape).copy_(matrix)


@settings(deadline=None, max_examples=300)
@given(SIZES, SIZES, SIZES, DTYPES, st.integers(0, 3), st.booleans(), st.booleans())
def test_equal_matrices_have_equal_products(
    a: int, b: int, c: int, dtype: torch.dtype, gap: int, turn_left: bool, turn_right: bool
) -> None:
    generator = torch.Generator().manual_seed(a + 1000 * b + 1000000 * c)
    left, right = (torch.randn(size, dtype=dtype, generator=generator) for size in ((a, b), (b, c)))
    stacked_left = copies(left.mT, gap).mT if turn_left else copies(left, gap)
    stacked_right = copies(right.mT, gap).mT if turn_right else copies(right, gap)
    found = product(stacked_left, stacked_right)
    assert found.shape == (9, a, c)
    assert torch.equal(found, found[:1].expand(9, a, c))
    torch.testing.assert_close(found[0], product(left, right), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 1000), DTYPES)
def test_rounded_is_the_next_boundary(count: int, dtype: torch.dtype) -> None:
    found = rounded(count, dtype)
    assert 0 <= found - count < BOUNDARY // dtype.itemsize
    assert found * dtype.itemsize % BOUNDARY == 0


@pytest.mark.parametrize("shape", [(3, 8), (3, 5, 7), (3, 4, 4), (1, 3, 3)])
def test_aligned_copies_only_what_is_not(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    found = aligned(x)
    assert torch.equal(found, x)
    assert all(one.data_ptr() % BOUNDARY == 0 for one in found)
    assert (found is x) == (len(x) == 1 or x.stride(0) * 4 % BOUNDARY == 0)
    assert aligned(found) is found
