"""What a module keeps in Python beside weights and buffers: counters, hidden states, queues, generators.

K at a time the module's Python code runs once for all trials, and a step that is done one by one would not see what the
others left there. So a module whose Python state goes on from step to step trains one by one, each trial with its own.
"""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from optim_core.vmapped.torch_private import version

# What torch itself keeps in each module.
_TORCHS = frozenset(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs", "parametrizations"}
_DEPTH = 4


def unlike(one: nn.Module, other: nn.Module) -> list[str]:
    """Names of tensors beside weights and buffers that two modules hold with other values."""
    found: list[str] = []
    for (prefix, a), (_, b) in zip(one.named_modules(), other.named_modules(), strict=False):
        for name, x in vars(a).items():
            y = vars(b).get(name)
            if isinstance(x, Tensor) and isinstance(y, Tensor) and not torch.equal(x, y):
                found.append(f"{prefix}.{name}" if prefix else name)
    return found


def of_value(value: Any) -> Any:
    """Something that is equal exactly while a number, a string, an array or a generator is what it was; ``NotImplemented`` for
    anything else.
    """
    # Of somebody else's, who may be gone: then not even its class can be asked for.
    if type(value) in weakref.ProxyTypes:
        return type(value).__name__
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return hash(value.getstate())
    return NotImplemented


class PythonState:
    """The state at one moment. It holds what it saw, so that nothing new can take its place in memory."""

    def __init__(self, module: nn.Module) -> None:
        known = {id(x) for x in (*module.parameters(), *module.buffers())}
        self._seen: list[Any] = []
        self._found: dict[str, Any] = {}
        for prefix, inner in module.named_modules():
            for name, value in vars(inner).items():
                if name not in _TORCHS:
                    path = f"{prefix}.{name}" if prefix else name
                    self._found[path] = self._summary(value, known, _DEPTH)

    def changed(self, later: PythonState) -> list[str]:
        """Names of what is not as it was."""
        nothing = object()
        names = {**self._found, **later._found}
        return [n for n in names if self._found.get(n, nothing) != later._found.get(n, nothing)]

    def _summary(self, value: Any, known: set[int], depth: int) -> Any:
        """Something that is equal exactly while the value is what it was."""
        if isinstance(value, Tensor):
            self._seen.append(value)
            return "weight" if id(value) in known else (id(value), version(value))
        found = of_value(value)
        return found if found is not NotImplemented else self._of_container(value, known, depth)

    def _of_container(self, value: Any, known: set[int], depth: int) -> Any:
        if isinstance(value, nn.Module | type | FunctionType | MethodType | ModuleType):
            return id(value)
        self._seen.append(value)
        if depth == 0:
            return id(value)
        if isinstance(value, Mapping):
            return [(repr(key), self._summary(one, known, depth - 1)) for key, one in value.items()]
        if isinstance(value, list | tuple | deque):
            return [self._summary(one, known, depth - 1) for one in value]
        if isinstance(value, set | frozenset):
            return sorted(repr(one) for one in value)
        own = getattr(value, "__dict__", None)
        if own is None:
            return id(value)
        return [id(value), *((name, self._summary(one, known, depth - 1)) for name, one in own.items())]
