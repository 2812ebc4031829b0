"""How many trials fit: bytes per trial, measured once on two small packs, against the device's whole memory.

What is counted are tensors, which do not depend on the allocator, so that plans repeat.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from optim_core.engine.cgroup import memory_limit
from optim_core.engine.forms import ALONE, LARGEST_PACK, default_form, probe_trials
from optim_core.engine.pack import PackRunner
from optim_core.engine.result import PackTooLarge, too_large
from optim_core.spec.optimizers import OPTIMIZERS, Role
from optim_core.spec.trial import Form
from optim_core.tasks.task import Task
from optim_core.transforms.roles import roles_of
from optim_core.transforms.torch_private import TorchDispatchMode, tree_leaves

# A share of the machine that a pack may take; the rest is for data, other workers and everything else.
SHARE = 0.25
# What a process takes for a byte of tensors (`make bench-engine`: mostly up to 1.4, more for tiny networks); ``SHARE`` leaves
# room for the rest.
SLACK = 1.3
# Sizes of the packs that are measured. A part with few trials of a method may update them one by one.
PACKS = (4, 8)
STEPS = 2


def total_bytes(device: torch.device) -> int:
    """Memory of the device, in bytes; of a processor as much as this process may have."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, memory_limit() or machine)


def max_pack_size(problem: Task) -> int:
    """The largest power of two of trials that should fit, at least 1, at most 64."""
    method = _largest_state(problem)
    try:
        with too_large(PACKS[1]):
            small, large = (peak_bytes(problem, method, k) for k in PACKS)
    except PackTooLarge:
        return PACKS[0]
    each = max(1.0, (large - small) / (PACKS[1] - PACKS[0]))
    once = max(0.0, small - PACKS[0] * each)
    fits = int((total_bytes(problem.device) * SHARE / SLACK - once) / each)
    return min(LARGEST_PACK, 1 << max(0, fits.bit_length() - 1)) if fits >= 1 else 1


def peak_bytes(problem: Task, optimizer: str, k: int) -> int:
    """Bytes of tensors that training ``k`` trials of a method together needs at once."""
    form = ALONE if default_form(problem) == ALONE else Form(engine="batched", width=k)
    with LiveBytes() as live:
        runner = PackRunner(problem, probe_trials(problem, [optimizer] * k), STEPS, form)
        runner.advance(0, STEPS)
    return live.peak


def _largest_state(problem: Task) -> str:
    """The included method that remembers most."""
    network = problem.make_model(0)
    roles = roles_of(network)
    shapes: list[tuple[tuple[int, ...], Role]] = [
        (tuple(p.shape), roles[name]) for name, p in network.named_parameters()
    ]
    # Minimizers run one after the other, outside the batch.
    names = [name for name in problem.spec.search.included() if OPTIMIZERS[name].batched]
    return max(names, key=lambda name: sum(OPTIMIZERS[name].numbers_of(shape, role) for shape, role in shapes))


class LiveBytes(TorchDispatchMode):
    """``peak``: the most bytes that tensors made since it was entered held at once, as seen between operations."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._bytes = 0, 0
        # Storage → what tells when it is gone, and its bytes.
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is ever compiled; shielding it from the compiler would import all of it first: a second.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        found = func(*args, **(kwargs or {}))
        made = {x.untyped_storage()._cdata: x for x in tree_leaves(found) if isinstance(x, Tensor)}
        if fresh := made.keys() - before:
            self._forget()
            for key in fresh - self._alive.keys():
                storage = made[key].untyped_storage()
                self._alive[key] = (StorageWeakRef(storage), storage.nbytes())
                self._bytes += storage.nbytes()
            self.peak = max(self.peak, self._bytes)
        return found

    def _forget(self) -> None:
        for key in [key for key, (ref, _) in self._alive.items() if ref.expired()]:
            self._bytes -= self._alive.pop(key)[1]
