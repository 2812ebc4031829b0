"""What a network's backward needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from optim_core.tasks.build import Problem


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


def activation_numbers(problem: Problem) -> int:
    """Numbers that one trial's forward pass keeps for backward, measured on one batch."""
    model, (x, y) = problem.make_model(0), (part[: problem.batch_size] for part in problem.train)
    return kept_bytes(model, lambda: problem.loss(model(x), y)) // (torch.finfo(problem.dtype).bits // 8)
