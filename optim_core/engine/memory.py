"""How many trials fit: bytes per trial, estimated once, against the device's whole memory (stable, so plans repeat)."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.tasks.build import Problem

LARGEST_PACK = 64
# A share of the machine that a pack may take; the rest is for data, other workers and everything else.
SHARE = 0.25


def total_bytes(device: torch.device) -> int:
    """Memory of the device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def trial_bytes(problem: Problem) -> int:
    """Weights, gradients, state and its successor, and three times the activations of one batch."""
    width = torch.finfo(problem.dtype).bits // 8
    state = max(row.state_per_weight for row in OPTIMIZERS.values())
    weights = problem.parameter_count * width * (3 + 2 * state)
    return int(weights + 3 * width * _activation_numbers(problem))


def max_pack_size(problem: Problem) -> int:
    """The largest power of two of trials that fits, at least 1, at most 64."""
    fits = int(total_bytes(problem.device) * SHARE / trial_bytes(problem))
    return min(LARGEST_PACK, 1 << max(0, fits.bit_length() - 1)) if fits >= 1 else 1


def _activation_numbers(problem: Problem) -> int:
    """Numbers that the layers of one trial put out for one batch."""
    model, total = problem.make_model(0), 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    with torch.no_grad():
        model(problem.train.x[: problem.batch_size])
    for hook in hooks:
        hook.remove()
    return total
