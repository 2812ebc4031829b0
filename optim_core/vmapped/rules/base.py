"""What rules need of the mode that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from optim_core.vmapped.draws import Draws

Rule = Callable[..., Any]


class Trials(Protocol):
    """See ``stacked_mode.StackedMode``. ``count``: K."""

    count: int
    draws: Draws

    def raw(self, x: Tensor | None) -> tuple[Any, bool]: ...

    def wide(self, x: Tensor) -> Tensor: ...

    def channels(self, x: Tensor) -> Tensor: ...

    def wrap(self, x: Tensor, axis: int = 0) -> Tensor: ...

    def mask(self, shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor: ...


def as_autocast(x: Tensor) -> Tensor:
    """``x`` in the precision in which the person's autocast, where it is at work, computes products."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return x
    return x.to(torch.get_autocast_dtype(device))


def lowers_precision(x: Tensor) -> bool:
    """Whether the person's autocast is at work: a rule with a backward of its own would not see what it casts."""
    return torch.is_autocast_enabled(x.device.type)
