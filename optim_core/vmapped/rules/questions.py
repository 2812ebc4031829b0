"""Values that Python asks of a tensor (``if x.sum() > 0``, ``.item()``): answered while all trials agree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped.form import Refused
from optim_core.vmapped.rules.base import Rule, Trials


class Disagreement(Refused):
    """The module asks for a value that differs between trials."""


def agreed(trials: Trials, x: Tensor, what: str) -> Any:
    """The tensor that all trials have, or ``NotImplemented`` if it is none of theirs."""
    inner, own = trials.raw(x)
    if not own:
        return NotImplemented
    first = inner[:1]
    same = (inner == first) | ((inner != inner) & (first != first))
    if not bool(same.all()):
        raise Disagreement(f"its forward asks for a value that differs between trials ({what})")
    return inner[0].detach()


def _question(ask: Any, what: str) -> Rule:
    def rule(trials: Trials, x: Tensor, *args: Any) -> Any:
        value = agreed(trials, x, what)
        return value if value is NotImplemented else ask(value, *args)

    return rule


def requires_grad(trials: Trials, x: Tensor) -> Any:
    """vmap says no for whatever it carries."""
    inner, own = trials.raw(x)
    return inner.requires_grad if own else NotImplemented


RULES: dict[Any, Rule] = {
    Tensor.requires_grad.__get__: requires_grad,  # pyright: ignore[reportAttributeAccessIssue]
    Tensor.__bool__: _question(bool, "if …"),
    Tensor.item: _question(Tensor.item, ".item()"),
    Tensor.tolist: _question(Tensor.tolist, ".tolist()"),
    Tensor.__float__: _question(float, "float(…)"),
    Tensor.__int__: _question(int, "int(…)"),
    Tensor.__index__: _question(Tensor.__index__, "as an index"),
    Tensor.is_nonzero: _question(bool, "if …"),
    torch.is_nonzero: _question(bool, "if …"),
}
