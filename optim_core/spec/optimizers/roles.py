"""Which weights a method for matrices applies to, and what matrices it sees in them."""

from __future__ import annotations

from math import prod

from optim_core.spec.optimizers.info import Role, Shape

# Eigenvectors of a side cost its cube.
MAX_SIDE = 2048


def in_front(role: Role, axes: int) -> int:
    """How many of a weight's axes only count its matrices: of a stack (E, A, B) the first, of a kernel (out, in, h, w) none."""
    return max(0, axes - 2) if role == "stack" else 0


def matrices(role: Role, shape: Shape) -> tuple[int, int, int]:
    """(count, A, B): a kernel as one matrix (out, in·h·w), a stack (E, A, B) as E of them, a vector as one column."""
    front = in_front(role, len(shape))
    own = shape[front:]
    if len(own) < 2:
        return 1, prod(own), 1
    return prod(shape[:front]), own[0], prod(own[1:])


def orthogonalised(role: Role, shape: Shape) -> bool:
    """Muon's part: hidden matrices, stacks of them and kernels."""
    return role in ("matrix", "stack") and len(shape) >= 2


def preconditioned(role: Role, shape: Shape) -> bool:
    """Shampoo's and SOAP's part: all matrices, unless a side is too long."""
    return role not in ("vector", "norm") and len(shape) >= 2 and max(matrices(role, shape)[1:]) <= MAX_SIDE


def triangular(shape: Shape, size: int) -> bool:
    """Whether PSGD's factor for a side of this length is a triangle, not a diagonal."""
    return len(shape) >= 2 and 1 < size <= MAX_SIDE


def many_axes(role: Role, shape: Shape) -> bool:
    """Whatever has two axes or more."""
    del role
    return len(shape) >= 2
