"""How many trials fit: bytes per trial, estimated once, against the device's whole memory (stable, so plans repeat)."""

from __future__ import annotations

import os

import torch
from torch import Tensor

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
    """Weights, gradients, state and what one batch keeps for the way back, all twice, for what a step needs besides."""
    width = torch.finfo(problem.dtype).bits // 8
    network = problem.make_model(0)
    roles = roles_of(network)
    shapes: list[tuple[tuple[int, ...], Role]] = [(tuple(p.shape), roles[n]) for n, p in network.named_parameters()]
    # Minimizers run one after the other, outside the batch.
    rows = [OPTIMIZERS[name] for name in problem.spec.search.included() if OPTIMIZERS[name].batched]
    state = max(sum(row.numbers_of(shape, role) for shape, role in shapes) for row in rows)
    return int(width * 2 * (2 * problem.parameter_count + state + activation_numbers(problem)))


def max_pack_size(problem: Problem) -> int:
    """The largest power of two of trials that fits, at least 1, at most 64."""
    fits = int(total_bytes(problem.device) * SHARE / trial_bytes(problem))
    return min(LARGEST_PACK, 1 << max(0, fits.bit_length() - 1)) if fits >= 1 else 1


def activation_numbers(problem: Problem) -> int:
    """Numbers that one trial's forward pass keeps for the way back, measured on one batch."""
    model, kept = problem.make_model(0), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    x, y = (part[: problem.batch_size] for part in problem.train)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = problem.loss(model(x), y)
    del loss
    own = {p.data_ptr() for p in model.parameters()}
    return sum(numbers for pointer, numbers in kept.items() if pointer not in own)
