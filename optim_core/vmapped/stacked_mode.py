"""K trials at a time: vmap carries the trial axis, and what it is slow at or cannot do has a rule on the (K, …) tensors.

Weights are ordinary leaves below vmap, so a rule is plain torch code and its backward comes from autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped import torch_private as private
from optim_core.vmapped.draws import Draws
from optim_core.vmapped.opened import OPENED, opened
from optim_core.vmapped.random_functions import RANDOM
from optim_core.vmapped.rules import RULES
from optim_core.vmapped.rules.each import run_each
from optim_core.vmapped.trial_mode import TrialMode

# Functions whose result is fresh memory: widened, each trial has its own, and may write what depends on weights into it.
FACTORIES: frozenset[Callable[..., Any]] = frozenset(
    (
        torch.zeros, torch.ones, torch.full, torch.empty, torch.zeros_like, torch.ones_like, torch.full_like, torch.empty_like,
        torch.clone, torch.tensor, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_empty, Tensor.new_tensor,
        Tensor.clone,
    )
)  # fmt: skip
_NO_RULE = "Batching rule not implemented"


class StackedMode(TrialMode):
    """To be entered inside ``vmap``. ``widened``: fresh memory gets a trial axis."""

    def __init__(self, draws: Draws, count: int, *, widened: bool) -> None:
        super().__init__(draws)
        self.count = count
        self._widened = widened
        self._level = private.current_level()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if private.current_level() != self._level:
            # The person's own torch.func inside: that is torch's business.
            return func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is not None:
            with private.outside():
                found = rule(self, *args, **kwargs)
            if found is not NotImplemented:
                return found
        handler = RANDOM.get(func)
        if handler is not None:
            found = handler(self, func, *args, **kwargs)
            if found is not NotImplemented:
                return found
        if func in OPENED:
            with self:
                return opened(func)(*args, **kwargs)
        if self._widened and func in FACTORIES:
            return self._own_memory(func(*args, **kwargs))
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            if _NO_RULE not in str(error):
                raise
        with private.outside():
            return run_each(self, func, args, kwargs)

    def raw(self, x: Tensor | None) -> tuple[Any, bool]:
        """The tensor with trials in front and True; or the tensor itself and False where all trials share it."""
        if x is None or not private.is_batched(x):
            return x, False
        axis, inner = private.axis_of(x), private.unwrapped(x)
        return (inner if axis == 0 else inner.movedim(axis, 0)), True

    def wide(self, x: Tensor) -> Tensor:
        """(K, …), also of a tensor that all trials share."""
        inner, own = self.raw(x)
        return inner if own else inner.expand(self.count, *inner.shape)

    def channels(self, x: Tensor) -> Tensor:
        """Images with trials side by side in the channels: (batch, K·channels, …)."""
        axis, inner = private.axis_of(x), private.unwrapped(x)
        return (inner if axis == 1 else inner.movedim(axis, 1)).flatten(1, 2)

    def wrap(self, x: Tensor, axis: int = 0) -> Tensor:
        """What the module sees of a tensor whose ``axis`` is that of the trials."""
        return private.wrapped(x, axis, self._level)

    def _drawn(self, numbers: Callable[[], Tensor], shape: Sequence[int]) -> Tensor:
        with private.outside():
            found = numbers().reshape(self.count, *shape)
        return self.wrap(found)

    def _own_memory(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or private.is_batched(x):
            return x
        with private.outside():
            found = x.expand(self.count, *x.shape).clone()
        return self.wrap(found)
