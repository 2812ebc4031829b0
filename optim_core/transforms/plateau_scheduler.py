"""Reduce on plateau, with a warm-up in front, behind torch's scheduler interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from optim_core.schedules import plateau


class PlateauScheduler(LRScheduler):
    """lr = initial lr · table[t] · factor. ``step()`` once per optimizer step moves t; ``step(loss)`` after an evaluation
    may shrink the factor. Stepped with losses only, it is torch's ReduceLROnPlateau.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, table: Sequence[float], numbers: Mapping[str, float]) -> None:
        self.table = list(table)
        self.numbers = {key: numbers[key] for key in ("gamma", "patience", "cooldown", "threshold")}
        self.state: dict[str, Any] = {key: float(value) for key, value in plateau.init(1).items()}
        super().__init__(optimizer)

    def step(self, loss: float | None = None) -> None:  # type: ignore[override]
        """See the class."""
        if loss is None:
            super().step()
            return
        before = {key: torch.tensor([value], dtype=torch.float64) for key, value in self.state.items()}
        after = plateau.observe(before, torch.tensor([float(loss)], dtype=torch.float64), **self.numbers)
        self.state = {key: float(value) for key, value in after.items()}
        self._write()

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Learning rates of this step, one a param group."""
        value = self.table[min(self.last_epoch, len(self.table) - 1)] * self.state["factor"]
        return [base * value for base in self.base_lrs]

    def _write(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = list(self.get_lr())
