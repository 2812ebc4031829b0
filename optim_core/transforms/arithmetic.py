"""The few operations that update rules are made of, for one weight of one trial, of K trials, and for many weights at once.

Numbers are floats, or for K trials tensors that broadcast: floats are folded into the fused form of an operation. What ends
with an underscore changes its first argument.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.transforms.bundle import Bundle

# A weight, gradient or state: Tensor or Bundle. Typed as Any because the two share methods, not a base.
Array = Any
Number = Any


def zeros_like(x: Array) -> Array:
    """Zeros in the shape of ``x``."""
    return x.zeros_like() if isinstance(x, Bundle) else torch.zeros_like(x)


def add_(x: Array, y: Array, scale: Number) -> Array:
    """x += scale·y."""
    return x.addcmul_(y, scale) if isinstance(scale, Tensor) else x.add_(y, alpha=scale)


def add_ratio_(x: Array, above: Array, below: Array, scale: Number) -> Array:
    """x += scale·above/below."""
    if isinstance(scale, Tensor) and not isinstance(x, Bundle):
        return x.addcmul_(above / below, scale)
    return x.addcdiv_(above, below, value=scale)


def ratio_(above: Array, below: Array) -> Array:
    """above/below, in the memory of ``below``: one array fewer to go through the cache."""
    return below.turn_into_ratio_(above) if isinstance(below, Bundle) else torch.div(above, below, out=below)


def add_product_(x: Array, a: Array, b: Array, scale: Number) -> Array:
    """x += scale·a·b."""
    return x.addcmul_(a * scale, b) if isinstance(scale, Tensor) else x.addcmul_(a, b, value=scale)


def average_squares_(v: Array, g: Array, keep: Number, new: Number) -> Array:
    """v = keep·v + new·g²."""
    return add_product_(v.mul_(keep), g, g, new)


def mix(x: Array, y: Array, share: Number) -> Array:
    """(1 − share)·x + share·y, as a new array."""
    return x.lerp(y, share)


def sqrt_into(x: Array, scratch: Array) -> Array:
    """Square roots, written into ``scratch``."""
    return x.sqrt_into(scratch) if isinstance(x, Bundle) else torch.sqrt(x, out=scratch)


def cube_root(x: Array) -> Array:
    """∛x of x ≥ 0 as a new array; of trials 1e-12 below 1e-36, by Halley's steps, whose error is cubed, from one 4 % off.

    A trial's numbers must be rounded alike wherever they lie in memory, which ``pow`` does not do at a block's end.
    """
    if isinstance(x, Bundle):
        return x.pow(1 / 3)
    x = x.clamp(min=1e-36)
    root = _near_cube_root(x)
    for _ in range(3 if x.dtype == torch.float64 else 2):
        # r(r³ + 2x)/(2r³ + x) = 2r − 3r/(2 + x/r³), which no large x overflows.
        beside = ratio_(x, (root * root).mul_(root)).add_(2.0)
        root = add_(ratio_(root, beside), root, -2 / 3).mul_(-3.0)
    return root


def _near_cube_root(x: Tensor) -> Tensor:
    """Within 4 %: a third of the exponent, which as a whole number the bits of ``x`` nearly are the logarithm of."""
    whole, digits, bias = (torch.int64, 52, 1023) if x.dtype == torch.float64 else (torch.int32, 23, 127)
    third = x.view(whole).to(x.dtype).mul_(1 / 3).add_((2 / 3 * bias - 0.0321) * 2.0**digits)
    return third.to(whole).view(x.dtype)


def clamp_below_(x: Array, low: Number) -> Array:
    """x = max(x, low)."""
    if isinstance(x, Bundle):
        return x.maximum_(low)
    return torch.maximum(x, low, out=x) if isinstance(low, Tensor) else x.clamp_(min=low)


def clamp_(x: Array, low: Number, high: Number) -> Array:
    """x = min(max(x, low), high)."""
    if isinstance(x, Bundle):
        return x.maximum_(low).minimum_(high)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        ends = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in (low, high))
        return x.clamp_(*ends)
    return x.clamp_(low, high)


def largest_(x: Array, y: Array) -> Array:
    """x = max(x, y)."""
    return x.maximum_(y) if isinstance(x, Bundle) else torch.maximum(x, y, out=x)


def choose(condition: Number, yes: Array, no: Array) -> Array:
    """``yes`` for trials whose condition is above 0, else ``no``."""
    if isinstance(condition, Tensor):
        return torch.where(condition > 0, yes, no)
    return yes if condition > 0 else no


def one_number_each(x: Array) -> Tensor:
    """State of one number per weight, which broadcasts against it; of a bundle, of weights of as many axes, a vector."""
    return torch.stack(x.tensors).view(-1) if isinstance(x, Bundle) else x


def keep_one_number_each_(x: Array, numbers: Tensor) -> None:
    """Write what came of ``one_number_each`` back."""
    if isinstance(x, Bundle):
        x.copy_(Bundle(numbers.unbind()))
    elif numbers is not x:
        x.copy_(numbers)


def norms(x: Array, lead: int) -> Array:
    """Euclidean norm of each weight, shaped to broadcast against it; a vector for a bundle."""
    if isinstance(x, Bundle):
        return x.norms()
    return torch.linalg.vector_norm(x, dim=tuple(range(lead, x.ndim)), keepdim=True) if x.ndim > lead else x.abs()
