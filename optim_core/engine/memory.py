"""How many trials fit: bytes per trial, estimated once, against the device's whole memory (stable, so plans repeat)."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from optim_core.spec.optimizers import OPTIMIZERS, Role
from optim_core.tasks.build import Problem
from optim_core.transforms.roles import roles_of

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
    network = problem.make_model(0)
    roles = roles_of(network)
    shapes: list[tuple[tuple[int, ...], Role]] = [(tuple(p.shape), roles[n]) for n, p in network.named_parameters()]
    # Minimizers run one after the other, outside the batch.
    rows = [OPTIMIZERS[name] for name in problem.spec.search.included() if OPTIMIZERS[name].batched]
    state = max(sum(row.numbers_of(shape, role) for shape, role in shapes) for row in rows)
    return int(width * (3 * problem.parameter_count + 2 * state + 3 * activation_numbers(problem)))


def max_pack_size(problem: Problem) -> int:
    """The largest power of two of trials that fits, at least 1, at most 64."""
    fits = int(total_bytes(problem.device) * SHARE / trial_bytes(problem))
    return min(LARGEST_PACK, 1 << max(0, fits.bit_length() - 1)) if fits >= 1 else 1


def activation_numbers(problem: Problem) -> int:
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
