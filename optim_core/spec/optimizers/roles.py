"""Which weights a method for matrices applies to."""

from __future__ import annotations

from math import prod

from optim_core.spec.optimizers.info import Role, Shape

# Eigenvectors of a side cost its cube.
MAX_SIDE = 2048


def orthogonalised(role: Role, shape: Shape) -> bool:
    """Muon's part: hidden matrices and kernels."""
    return role == "matrix" and len(shape) >= 2


def preconditioned(role: Role, shape: Shape) -> bool:
    """Shampoo's and SOAP's part: every matrix, a kernel as (out, in·h·w), unless a side is too long."""
    return role in ("matrix", "embedding", "head") and len(shape) >= 2 and max(shape[0], prod(shape[1:])) <= MAX_SIDE


def triangular(shape: Shape, size: int) -> bool:
    """Whether PSGD's factor for a side of this length is a triangle, not a diagonal."""
    return len(shape) >= 2 and 1 < size <= MAX_SIDE


def many_axes(role: Role, shape: Shape) -> bool:
    """Whatever has two axes or more."""
    del role
    return len(shape) >= 2
