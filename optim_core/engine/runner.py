"""The interface of an engine: K trials that advance step by step. Two implementations give the same results."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Runner(Protocol):
    """Trains the trials of one pack. All returned tensors have K rows, in the order of the pack."""

    def advance(self, first: int, last: int) -> Tensor:
        """Take the steps first … last−1; return the batch losses, shape (K, last − first)."""
        ...

    def outputs(self, batch: Any) -> Any:
        """What the networks make of a batch in evaluation mode, as ``task.Judge`` takes it: tensors (K, n, …)."""
        ...

    def observe(self, losses: Tensor) -> None:
        """Tell the schedules that react to it the validation losses (K,) of an evaluation."""
        ...

    def state(self) -> list[dict[str, Any]]:
        """Per trial everything needed to continue it, here or in another pack, as tensors. They may be views."""
        ...

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Continue from the trials' states."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Parameters by name, each (K, *shape)."""
        ...


class DivergenceWatch:
    """Marks trials whose batch loss stops being finite or exceeds 100·(first loss + 1). Once marked, always marked.

    A marked trial trains on as garbage, which disturbs nobody, until it leaves its pack at the next evaluation.
    """

    def __init__(self, trials: int) -> None:
        self.limit = torch.full((trials,), torch.nan, dtype=torch.float64)
        self.at = torch.full((trials,), -1, dtype=torch.long)

    def see(self, losses: Tensor, first: int) -> None:
        """``losses``: (K, n) of steps first … first+n−1."""
        losses = losses.detach().to("cpu", torch.float64)
        if first == 0:
            self.limit = 100 * (losses[:, 0] + 1)
        broken = ~(losses <= self.limit[:, None])
        position = torch.where(broken.any(1), broken.int().argmax(1) + first, torch.tensor(-1))
        self.at = torch.where(self.at >= 0, self.at, position)

    def mark(self, bad: Tensor, step: int) -> None:
        """Mark trials whose evaluation at ``step`` is not finite."""
        self.at = torch.where((self.at < 0) & bad.cpu(), torch.tensor(step), self.at)
