"""What a step's torch functions go through: those that are random get their numbers from the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from optim_core.vmapped.draws import Draws
from optim_core.vmapped.opened import OPENED, opened
from optim_core.vmapped.random_functions import RANDOM
from optim_core.vmapped.torch_private import current_level

Handler = Callable[..., Any]
_OURS = OPENED | RANDOM.keys()


class TrialMode(TorchFunctionMode):
    """One trial by itself. Inside another transform (the person's own ``torch.func``) everything is torch's."""

    def __init__(self, draws: Draws) -> None:
        super().__init__()
        self.draws = draws

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in _OURS:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        handler = RANDOM.get(func)
        if handler is None:
            with self:
                return opened(func)(*args, **kwargs)
        found = NotImplemented if current_level() else handler(self, func, *args, **kwargs)
        return func(*args, **kwargs) if found is NotImplemented else found

    def _drawn(self, numbers: Callable[[], Tensor], shape: Sequence[int]) -> Tensor:
        """What ``numbers`` draws, (K, count), as a tensor of ``shape`` for the module."""
        return numbers().reshape(tuple(shape))

    def mask(self, shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor:
        """What to multiply with: 0 with probability ``rate``, else what keeps the mean."""

        def numbers() -> Tensor:
            keep, scale = self.draws.kept(rate, math.prod(shape))
            return keep.to(dtype).mul_(scale)

        return self._drawn(numbers, shape)

    def keeps(self, shape: Sequence[int], rate: float) -> Tensor:
        """Which elements stay, bools: each leaves with probability ``rate``."""
        return self._drawn(lambda: self.draws.kept(rate, math.prod(shape))[0], shape)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """In [0, 1)."""
        return self._drawn(lambda: self.draws.uniform(math.prod(shape), dtype), shape)

    def inside(self, shape: Sequence[int]) -> Tensor:
        """In (0, 1), float64."""
        return self._drawn(lambda: self.draws.inside(math.prod(shape)), shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal, float64."""
        return self._drawn(lambda: self.draws.normal(math.prod(shape)), shape)

    def integers(self, shape: Sequence[int], low: int, high: int) -> Tensor:
        """In [low, high), int64."""
        return self._drawn(lambda: self.draws.integers(math.prod(shape), low, high), shape)

    def order(self, count: int) -> Tensor:
        """A permutation, int64."""
        return self._drawn(lambda: self.draws.order(count), (count,))
