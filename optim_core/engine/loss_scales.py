"""Loss scaling, so that gradients in float16 neither vanish nor overflow: torch.amp.GradScaler, for each trial of a pack."""

from __future__ import annotations

import torch
from torch import Tensor

from optim_core.engine.blocks import Weights

# torch's own (Micikevicius et al. 2018, "Mixed precision training", with a scale that follows the run).
START, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000


class LossScales:
    """``scale`` (K,) float32: by what each trial's loss is multiplied before its backward pass. ``steady`` (K,) int64: its
    steps since the scale last changed.

    A step whose gradients overflow is skipped and halves the scale; ``INTERVAL`` steps without one double it.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.scale = torch.full((count,), START, device=device)
        self.steady = torch.zeros(count, dtype=torch.int64, device=device)

    def unscale_(self, slots: Weights, span: slice, pieces: int = 1) -> Tensor:
        """Divide the gradients (k, …) of the trials in ``span`` by their scales over ``pieces``; returns who has any that is
        not finite, (k,) bools.
        """
        back = pieces / self.scale[span]
        overflowed = torch.zeros(len(back), dtype=torch.bool, device=back.device)
        for g in slots.values():
            g.mul_(back.to(g.dtype).view(-1, *[1] * (g.ndim - 1)))
            overflowed |= ~g.flatten(1).isfinite().all(1)
        return overflowed

    def update(self, overflowed: Tensor) -> None:
        """After a step of all trials, of which these (K,) were skipped."""
        self.steady = torch.where(overflowed, 0, self.steady + 1)
        grown = self.steady == INTERVAL
        self.steady[grown] = 0
        self.scale = self.scale * torch.where(overflowed, BACKOFF, torch.where(grown, GROWTH, 1.0))

    @property
    def state(self) -> Weights:
        """What a checkpoint keeps, (K,) each."""
        return {"scale": self.scale, "steady": self.steady}

    @state.setter
    def state(self, state: Weights) -> None:
        self.scale, self.steady = state["scale"].to(self.scale.device), state["steady"].to(self.scale.device)
