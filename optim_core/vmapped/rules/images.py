"""Convolutions and batch norm of K trials, side by side in the channels.

The result's trial axis stays next to the channels (``wrap(…, 1)``), so a run of image layers copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optim_core.vmapped.rules.base import Rule, Trials


def _convolution(func: Callable[..., Tensor], axes: int) -> Rule:
    def rule(
        trials: Trials,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        w, own = trials.raw(weight)
        if not own or input.ndim != axes + 2:
            return NotImplemented
        b = None if bias is None else trials.wide(bias).flatten()
        x, own_input = trials.raw(input)
        if own_input:
            x, pieces = trials.channels(input), groups * trials.count
        elif groups == 1:
            pieces = 1
        else:
            x, pieces = x.repeat(1, trials.count, *[1] * axes), groups * trials.count
        y = func(x, w.flatten(0, 1), b, stride, padding, dilation, pieces)
        return trials.wrap(y.unflatten(1, (trials.count, -1)), 1)

    return rule


def batch_norm(
    trials: Trials,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    found = [trials.raw(x) for x in (running_mean, running_var, weight, bias)]
    if not trials.raw(input)[1] or not all(x is None or own for x, own in found):
        return NotImplemented
    mean, variance, w, b = (None if x is None else x.reshape(-1) for x, _ in found)
    y = F.batch_norm(trials.channels(input), mean, variance, w, b, training, momentum, eps)
    if training:
        # Where stacked statistics do not follow each other in memory, what was updated is a copy.
        for flat, (stacked, _) in zip((mean, variance), found[:2], strict=True):
            if flat is not None and not stacked.is_contiguous():
                stacked.copy_(flat.view(stacked.shape))
    return trials.wrap(y.unflatten(1, (trials.count, -1)), 1)


RULES: dict[Any, Rule] = {
    torch.conv1d: _convolution(torch.conv1d, 1),
    torch.conv2d: _convolution(torch.conv2d, 2),
    torch.conv3d: _convolution(torch.conv3d, 3),
    F.batch_norm: batch_norm,
}
