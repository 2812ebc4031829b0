"""The training loss of a task as a module, so that it can be had at other weights than the module's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from optim_core.tasks.task import Task


class LossModule(nn.Module):
    """``smoothing``: the trial's label smoothing."""

    def __init__(self, task: Task, model: nn.Module, smoothing: float | None = None) -> None:
        super().__init__()
        self.model, self._of = model, lambda batch: task.loss_on(model, batch, smoothing)

    def forward(self, batch: Any) -> Tensor:
        return self._of(batch)

    def at(self, tensors: Mapping[str, Tensor], batch: Any) -> Tensor:
        """The loss () of a batch with these weights and buffers, by the model's names; buffers are written in place."""
        return functional_call(self, {f"model.{name}": x for name, x in tensors.items()}, (batch,))
