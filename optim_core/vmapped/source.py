"""Where the handlers of random functions get their numbers: see ``trial_mode.TrialMode``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

# ``(source, function, *args, **kwargs) → result``; ``NotImplemented`` leaves the call to torch.
Function = Callable[..., Any]


class Source(Protocol):
    """Each method is one call in the step. Tensors are as the module sees them: of ``shape``, whatever the number of trials."""

    def mask(self, shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor: ...

    def keeps(self, shape: Sequence[int], rate: float) -> Tensor: ...

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor: ...

    def inside(self, shape: Sequence[int]) -> Tensor: ...

    def normal(self, shape: Sequence[int]) -> Tensor: ...

    def integers(self, shape: Sequence[int], low: int, high: int) -> Tensor: ...

    def order(self, count: int) -> Tensor: ...
