"""Runs an answer as a person does who pastes it into a training script. The only place of the race that runs source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau


@dataclass(frozen=True)
class Pasted:
    """What the source built. ``schedulers`` step once a batch, ``plateau`` after each evaluation; ``closure``: the loop has to
    give ``optimizer.step`` a closure.
    """

    optimizer: Any
    schedulers: tuple[Any, ...]
    plateau: ReduceLROnPlateau | None
    closure: bool


def paste(source: str, model: nn.Module, total_steps: int) -> Pasted:
    """Run ``source``, which builds ``optimizer`` and may build ``scheduler`` and ``warmup_scheduler``. A line in it that says
    ``total_steps`` is changed to ours, as it asks for.

    Sources are those of the race's own tools. Raises what the source raises.
    """
    scope: dict[str, Any] = {"model": model, "total_steps": total_steps}
    exec(re.sub(r"(?m)^total_steps = \d+", f"total_steps = {total_steps}", source), scope)
    found = [scope[name] for name in ("warmup_scheduler", "scheduler") if name in scope]
    waiting = [each for each in found if isinstance(each, ReduceLROnPlateau)]
    return Pasted(
        optimizer=scope["optimizer"],
        schedulers=tuple(each for each in found if each not in waiting),
        plateau=waiting[0] if waiting else None,
        closure="optimizer.step(closure)" in source,
    )
