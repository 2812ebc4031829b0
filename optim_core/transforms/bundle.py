"""Many tensors treated as one: arithmetic in multi-tensor calls, so that a model of many small weights costs few of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from optim_core.transforms import torch_private as private

# Numbers that are copied into stacks at a time: what stays in a core's cache, and what is little of a GPU's memory.
MOST_STACKED_CPU, MOST_STACKED = 1 << 18, 1 << 24
EVERY = slice(None)


class Bundle:
    """Weights (or gradients, or their state) in a fixed order. Has the methods of a tensor that optimizers use.

    Operands are floats, bundles of the same weights, or tensors of one number per weight or for all; methods that end with an
    underscore change the tensors themselves. Built on ``torch._foreach_*``, as torch's own optimizers are.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)

    @property
    def ndim(self) -> int:
        """Axes of the first weight; a bundle holds only weights of a kind."""
        return self.tensors[0].ndim

    @property
    def shape(self) -> torch.Size:
        """Shape of the first weight."""
        return self.tensors[0].shape

    @property
    def dtype(self) -> torch.dtype:
        """All weights share one."""
        return self.tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """All weights share one."""
        return self.tensors[0].device

    def clone(self) -> Bundle:
        """A copy of every tensor."""
        return Bundle(x.clone() for x in self.tensors)

    def zeros_like(self) -> Bundle:
        """Zeros in every shape."""
        return Bundle(torch.zeros_like(x, memory_format=torch.preserve_format) for x in self.tensors)

    def copy_(self, other: Bundle) -> Bundle:
        """Write ``other`` into the tensors."""
        private.foreach_copy_(self.tensors, other.tensors)
        return self

    def parts(self, numbers: int) -> Iterator[slice]:
        """The weights in parts that may be stacked, where ``numbers`` of each are copied for it."""
        count = max(1, (MOST_STACKED_CPU if self.tensors[0].is_cpu else MOST_STACKED) // max(1, numbers))
        for start in range(0, len(self.tensors), count):
            yield slice(start, min(start + count, len(self.tensors)))

    def stacked(self, part: slice = EVERY) -> Tensor:
        """Weights of one shape along a new first axis; a single one as it is."""
        chosen = self.tensors[part]
        return chosen[0] if len(chosen) == 1 else torch.stack(chosen)

    def unstack_(self, whole: Tensor, part: slice = EVERY) -> Bundle:
        """Write what ``stacked`` gave, changed since, back into the tensors."""
        chosen = self.tensors[part]
        if len(chosen) > 1:
            private.foreach_copy_(chosen, list(whole.unbind()))
        elif whole is not chosen[0]:
            chosen[0].copy_(whole)
        return self

    def norms(self) -> Tensor:
        """The Euclidean norm of each weight: a vector."""
        return torch.stack(private.foreach_norm(self.tensors))

    def means(self) -> Tensor:
        """The mean of each weight: a vector."""
        return torch.stack([x.mean() for x in self.tensors])

    def size(self, scratch: Bundle) -> Tensor:
        """The sum of absolute values over all weights, float64. A norm of order 1 takes twice as long on the CPU.

        ``scratch`` is overwritten: fresh memory for a large weight costs as much as the arithmetic.
        """
        return self._total(
            [torch.abs(x, out=held).sum() for x, held in zip(self.tensors, scratch.tensors, strict=True)]
        )

    def sqrt_into(self, scratch: Bundle) -> Bundle:
        """Square roots, written into ``scratch``, which is given back."""
        for x, held in zip(self.tensors, scratch.tensors, strict=True):
            torch.sqrt(x, out=held)
        return scratch

    def dot(self, other: Bundle) -> Tensor:
        """The inner product over all weights, float64."""
        if other is self:
            return self.norms().square().sum(dtype=torch.float64)
        parts = [a.reshape(-1) @ b.reshape(-1) for a, b in zip(self.tensors, other.tensors, strict=True)]
        return self._total(parts)

    @staticmethod
    def _total(parts: list[Tensor]) -> Tensor:
        if len(parts) <= _FEW and parts[0].is_cpu:
            # Nothing to wait for, and quicker than stacking.
            return torch.tensor(sum(map(float, parts)), dtype=torch.float64)
        return torch.stack(parts).sum(dtype=torch.float64)

    def lerp(self, other: Bundle, weight: float) -> Bundle:
        """self + weight·(other − self)."""
        return Bundle(private.foreach_lerp(self.tensors, other.tensors, weight))

    def lerp_(self, other: Bundle, weight: float) -> Bundle:
        """The same, into self."""
        private.foreach_lerp_(self.tensors, other.tensors, weight)
        return self

    def add_(self, other: Bundle | float, alpha: float = 1.0) -> Bundle:
        """self += alpha·other."""
        if isinstance(other, Bundle):
            private.foreach_add_(self.tensors, other.tensors, alpha=alpha)
        else:
            private.foreach_add_(self.tensors, self._operand(other * alpha))
        return self

    def addcmul_(self, a: Bundle, b: Bundle | Tensor, value: float = 1.0) -> Bundle:
        """self += value·a·b; ``b`` may also be one number per weight, or for all."""
        private.foreach_addcmul_(self.tensors, a.tensors, self._operand(b), value)
        return self

    def addcdiv_(self, a: Bundle, b: Bundle, value: float | Tensor = 1.0) -> Bundle:
        """self += value·a/b; ``value`` may also be one number per weight."""
        if isinstance(value, Tensor) and not value.is_cpu:
            # As numbers of Python they would have to be waited for.
            return self.addcmul_(a / b, value)
        private.foreach_addcdiv_(self.tensors, a.tensors, b.tensors, value)
        return self

    def mul_(self, other: Any) -> Bundle:
        """self *= other."""
        private.foreach_mul_(self.tensors, self._operand(other))
        return self

    def div_(self, other: Any) -> Bundle:
        """self /= other."""
        private.foreach_div_(self.tensors, self._operand(other))
        return self

    def turn_into_ratio_(self, above: Bundle) -> Bundle:
        """self = above/self."""
        if self.tensors[0].is_cpu:
            for a, x in zip(above.tensors, self.tensors, strict=True):
                torch.div(a, x, out=x)
        else:
            self.tensors = list(private.foreach_div(above.tensors, self.tensors))
        return self

    def maximum_(self, other: Bundle | float) -> Bundle:
        """self = max(self, other)."""
        private.foreach_maximum_(self.tensors, _plain(other))
        return self

    def minimum_(self, other: Bundle | float) -> Bundle:
        """self = min(self, other)."""
        private.foreach_minimum_(self.tensors, _plain(other))
        return self

    def sqrt(self) -> Bundle:
        """Square roots."""
        return Bundle(private.foreach_sqrt(self.tensors))

    def sqrt_(self) -> Bundle:
        """The same, into self."""
        private.foreach_sqrt_(self.tensors)
        return self

    def reciprocal_(self) -> Bundle:
        """self = 1/self."""
        private.foreach_reciprocal_(self.tensors)
        return self

    def sign(self) -> Bundle:
        """−1, 0 or 1."""
        return Bundle(private.foreach_sign(self.tensors))

    def sign_(self) -> Bundle:
        """The same, into self."""
        private.foreach_sign_(self.tensors)
        return self

    def pow(self, exponent: float) -> Bundle:
        """Powers."""
        return Bundle(private.foreach_pow(self.tensors, exponent))

    def abs(self) -> Bundle:
        """Sizes."""
        return Bundle(private.foreach_abs(self.tensors))

    def __mul__(self, other: Any) -> Bundle:
        return Bundle(private.foreach_mul(self.tensors, self._operand(other)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bundle:
        return Bundle(private.foreach_div(self.tensors, self._operand(other)))

    def __add__(self, other: Any) -> Bundle:
        return Bundle(private.foreach_add(self.tensors, self._operand(other)))

    def __sub__(self, other: Any) -> Bundle:
        return Bundle(private.foreach_sub(self.tensors, self._operand(other)))

    def _operand(self, other: Any) -> Any:
        """``other`` as a multi-tensor call takes it fastest.

        On the CPU such a call wraps a float once per weight, which costs more than the arithmetic on a small one; a tensor
        is ready, but has to be made first, which a few weights do not repay. Half precision keeps the float: rounded to
        eight bits 0.999 would be 1.
        """
        if isinstance(other, Bundle):
            return other.tensors
        first = self.tensors[0]
        if not isinstance(other, Tensor):
            if len(self.tensors) <= _FEW or not (first.is_cpu and first.dtype in _EXACT):
                return float(other)
            other = torch.tensor(float(other), dtype=first.dtype)
        return list(other.unbind()) if other.ndim else [other] * len(self.tensors)


_EXACT = {torch.float32, torch.float64}
_FEW = 6


def _plain(other: Bundle | float) -> Any:
    return other.tensors if isinstance(other, Bundle) else float(other)
