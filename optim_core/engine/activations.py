"""What a network's backward needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from optim_core.tasks.task import Task


def kept_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of a forward pass for backward, weights left out."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held until all is counted, for a pointer that is free may be used again.
        held = loss()
    own = {p.data_ptr() for p in model.parameters()}
    del held
    return sum(size for pointer, size in kept.items() if pointer not in own)


def activation_numbers(problem: Task) -> int:
    """Numbers that one trial's forward pass keeps for backward, measured on one batch."""
    model, batch = problem.make_model(0), problem.batch(torch.arange(problem.batch_size))
    return kept_bytes(model, lambda: problem.loss_on(model, batch)) // (torch.finfo(problem.dtype).bits // 8)
