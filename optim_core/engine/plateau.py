"""The schedule that reacts to losses, for the trials of a pack that have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optim_core.schedules import plateau
from optim_core.spec.schedules import SCHEDULES
from optim_core.spec.trial import Configuration

_NUMBERS = ("gamma", "patience", "cooldown", "threshold")


def reacts(configuration: Configuration) -> bool:
    """Whether the trial's learning rate depends on its validation losses."""
    return SCHEDULES[str(configuration.schedule["name"])].stateful


class Plateaus:
    """Factors of K trials; 1 for ever where a trial's schedule does not react."""

    def __init__(self, configurations: Sequence[Configuration], device: torch.device) -> None:
        self.active = any(reacts(c) for c in configurations)
        # Infinite patience: never reacts.
        neutral = {"gamma": 1.0, "patience": float("inf"), "cooldown": 0.0, "threshold": 0.0}
        rows = [{**neutral, **c.schedule} if reacts(c) else neutral for c in configurations]
        self._numbers = {
            key: torch.tensor([float(row[key]) for row in rows], dtype=torch.float64, device=device) for key in _NUMBERS
        }
        self.state = plateau.init(len(configurations), device)

    @property
    def factor(self) -> Tensor | None:
        """(K,) float64, or None when no schedule reacts."""
        return self.state["factor"] if self.active else None

    def observe(self, losses: Tensor) -> None:
        """``losses``: (K,) validation losses of an evaluation."""
        if self.active:
            n = self._numbers
            self.state = plateau.observe(
                self.state, losses.to(n["gamma"].device), n["gamma"], n["patience"], n["cooldown"], n["threshold"]
            )
