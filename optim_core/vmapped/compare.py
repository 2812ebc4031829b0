"""Two courses of training, compared number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optim_core.vmapped.reference import RATE, Course, Moment

# Relative to the largest number of each tensor. What passes through narrower floats on the way is rounded there, and a last bit
# that differs before may be a whole one after.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# A gradient that is zero but for rounding is measured against this share of the largest one, a weight that began at zero
# against a step of the largest; buffers against a number of the usual size.
_FLOOR, _BUFFER_FLOOR = 1e-2, 1e-3


@dataclass(frozen=True)
class Difference:
    """The largest one: ``largest`` relative, ``what`` in words."""

    largest: float
    what: str
    too_large: bool

    @staticmethod
    def of(what: str, found: Tensor, wanted: Tensor, tolerance: float, floor: float = 0.0) -> Difference:
        """Between two tensors; NaN and infinity are equal to themselves."""
        if found.shape != wanted.shape:
            return Difference(torch.inf, f"{what} of shape {tuple(found.shape)}", True)
        if not wanted.is_floating_point():
            same = torch.equal(found, wanted)
            return Difference(0.0 if same else torch.inf, f"{what} differ", not same)
        a, b = found.double(), wanted.double()
        apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
        if not apart.numel():
            return Difference(0.0, "", False)
        size = max(float(b.nan_to_num(0.0, 0.0, 0.0).abs().max()), floor, torch.finfo(torch.float32).tiny)
        largest = float(apart.nan_to_num(torch.inf, torch.inf, torch.inf).max()) / size
        return Difference(largest, f"{what} differ by {largest:.0e}", largest > tolerance)


def compared(found: Course, wanted: Course, tolerance: float) -> Difference:
    """The largest difference of losses, gradients, weights and buffers, and of which weights went unused."""
    worst = Difference(0.0, "", False)
    written = [name for name in found.writes if name not in wanted.writes]
    if written:
        return Difference(torch.inf, f"{written[0]} is written into", True)
    for one, other in zip(found.moments, wanted.moments, strict=True):
        for difference in _of_moment(one, other, tolerance):
            if difference.largest > worst.largest or (difference.too_large and not worst.too_large):
                worst = difference
    return worst


def same_bits(found: Moment, wanted: Moment, trials: Sequence[int]) -> bool:
    """Whether these trials' losses, gradients and buffers are the same to the last bit."""
    pairs = [(found.losses, wanted.losses)]
    pairs += [(x, wanted.gradients[name]) for name, x in found.gradients.items()]
    pairs += [(x, wanted.buffers[name]) for name, x in found.buffers.items()]
    return all(torch.equal(a[k], b[k]) for a, b in pairs for k in trials)


def _of_moment(found: Moment, wanted: Moment, tolerance: float) -> list[Difference]:
    largest = [float(g.abs().nan_to_num(0.0, 0.0, 0.0).max()) for g in wanted.gradients.values() if g.numel()]
    floor = _FLOOR * max(largest, default=0.0)
    unused = {**found.unused, **wanted.unused}
    differences = [Difference.of("losses", found.losses.to(wanted.losses.dtype), wanted.losses, tolerance)]
    for name in unused:
        a, b = found.unused.get(name), wanted.unused.get(name)
        if a is None or b is None or not torch.equal(a.cpu(), b.cpu()):
            differences.append(Difference(torch.inf, f"{name} is used by other trials", True))
    for name, gradient in found.gradients.items():
        differences.append(Difference.of("gradients", gradient, wanted.gradients[name], tolerance, floor))
    for name, w in found.weights.items():
        differences.append(Difference.of("weights", w, wanted.weights[name], tolerance, floor * RATE / _FLOOR))
    for name, b in found.buffers.items():
        differences.append(Difference.of("buffers", b, wanted.buffers[name], tolerance, _BUFFER_FLOOR))
    return differences
