"""Functions of ``torch.nn.functional`` that are written in Python around what we have rules for.

A function mode sees the outermost call only: inside ``F.multi_head_attention_forward`` neither the linear layers nor the
dropout would be seen, and ``F.gaussian_nll_loss`` asks for values. Opened, the function's own code runs in sight of the mode.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch.nn.functional as F

OPENED: frozenset[Callable[..., Any]] = frozenset(
    (
        F.multi_head_attention_forward,
        F.gumbel_softmax,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.gaussian_nll_loss,
    )
)


@lru_cache(maxsize=len(OPENED))
def opened(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the question at its head whether anybody wants to see it called."""

    def nobody(*_: Any) -> bool:
        return False

    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    inner: Any = func
    new = types.FunctionType(
        inner.__code__, {**inner.__globals__, **dict.fromkeys(names, nobody)}, inner.__name__, inner.__defaults__
    )
    new.__kwdefaults__ = inner.__kwdefaults__
    return new
