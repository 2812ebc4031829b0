"""Weights that are stacks of matrices, as experts are: each matrix is treated as if it were a weight by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from optim_core.transforms.arithmetic import Array
from optim_core.transforms.base import Hyper, Own, Scalar, all_per_trial


def start_each(start: Callable[[Any, Hyper, int], Own], p: Tensor, hyper: Hyper, front: int) -> Own:
    """What ``start`` remembers of each matrix of ``p`` (…, A, B), with the axes that count them in front."""
    own = start(p.flatten(0, front - 1), _spread(hyper, p, front), 1)
    return {key: x.unflatten(0, p.shape[:front]) for key, x in own.items()}


def update_each(
    rule: Callable[..., None], p: Array, g: Tensor, own: Own, numbers: Mapping[str, Scalar], front: int
) -> None:
    """``rule`` for every matrix at once; weight and state are changed in place, as by the rule itself.

    ``numbers``: floats, or one a trial.
    """
    weights, gradients = p.flatten(0, front - 1), g.flatten(0, front - 1)
    memory = {key: x.flatten(0, front - 1) for key, x in own.items()}
    shaped = all_per_trial(_spread(numbers, p, front), weights)
    rule(weights, gradients, memory, shaped, 1)
    # Trials need not follow each other in memory, and rules may answer with new tensors.
    for whole, flat in ((p, weights), *((own[key], x) for key, x in memory.items())):
        if flat.data_ptr() != whole.data_ptr():
            whole.copy_(flat.view(whole.shape))


def _spread(numbers: Mapping[str, Any], p: Tensor, front: int) -> dict[str, Any]:
    """A trial's number for each of its matrices."""
    count = p.shape[1:front].numel()
    per_trial = {k: v for k, v in numbers.items() if isinstance(v, Tensor) and v.ndim == 1}
    return {**numbers, **{key: torch.repeat_interleave(value, count) for key, value in per_trial.items()}}
