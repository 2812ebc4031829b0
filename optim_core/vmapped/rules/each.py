"""What vmap has no rule for: once for each trial, then stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from optim_core.vmapped.batch_tree import rebuilt, tensors_of, with_tensors
from optim_core.vmapped.form import Refused
from optim_core.vmapped.rules.base import Trials
from optim_core.vmapped.torch_private import version


def run_each(trials: Trials, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``func`` on each trial's arguments. What it writes into must be the trials' own."""
    given = (tuple(args), kwargs)
    found = [trials.raw(x) for x in tensors_of(given)]
    shared = [(x, version(x)) for x, own in found if not own]
    results: list[Any] = []
    for k in range(trials.count):
        own_args, own_kwargs = with_tensors(given, [x[k] if own else x for x, own in found])
        results.append(func(*own_args, **own_kwargs))
    name = getattr(func, "__name__", str(func))
    if any(version(x) != before for x, before in shared):
        raise Refused(f"{name} writes what differs between trials into a tensor that they share")
    columns = [tensors_of(one) for one in results]
    rest = [rebuilt(one, lambda _: None) for one in results]
    if any(one != rest[0] for one in rest) or any(len(column) != len(columns[0]) for column in columns):
        raise Refused(f"its forward asks for what differs between trials ({name})")
    if any(x.shape != y.shape for column in columns for x, y in zip(column, columns[0], strict=True)):
        raise Refused(f"{name} gives trials results of different shapes")
    stacked = [torch.stack(list(column)) for column in zip(*columns, strict=True)]
    return rebuilt(with_tensors(results[0], stacked), trials.wrap)
