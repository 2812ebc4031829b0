"""Cross-entropy of K trials as that of K times as many rows."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from optim_core.vmapped.rules.base import Rule, Trials


def cross_entropy(
    trials: Trials,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    x, own = trials.raw(input)
    labels = trials.wide(target)
    usual = not trials.raw(weight)[1] and size_average is None and reduce is None
    if not own or not usual or x.ndim < 3 or labels.is_floating_point():
        return NotImplemented
    if labels.shape[1:] != (*x.shape[1:2], *x.shape[3:]):
        return NotImplemented
    each = F.cross_entropy(
        x.flatten(0, 1),
        labels.flatten(0, 1),
        weight,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    if reduction == "none":
        return trials.wrap(each.view(labels.shape))
    total = each.view(trials.count, -1).sum(1)
    if reduction == "sum":
        return trials.wrap(total)
    counted, own_target = trials.raw(target)
    seen: Tensor = counted != ignore_index
    if weight is not None:
        seen = weight[counted.where(seen, 0)] * seen
    return trials.wrap(total / (seen.flatten(1).sum(1) if own_target else seen.sum()))


RULES: dict[Any, Rule] = {F.cross_entropy: cross_entropy}
