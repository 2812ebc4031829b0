"""What a person's functions can see beside the module: globals, variables of enclosing functions, objects.

A recorded step does not run them again. A counter there that goes on from step to step would stand still.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import length_hint
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from optim_core.vmapped.python_state import of_value

_DEPTH, _MOST = 3, 200
_TORCHS = frozenset(vars(nn.Module()))
# Code that keeps nothing of a person's. What is installed lies below the standard library, and may be theirs.
_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<frozen")
_STANDARD, _INSTALLED = sysconfig.get_paths()["stdlib"], ("site-packages", "dist-packages")

Seen = dict[tuple[CodeType, str], Any]


@contextmanager
def looking() -> Iterator[Seen]:
    """Each function's view at its first call inside: (its code, name) → what it looked like."""
    seen: Seen = {}
    # What the garbage collector calls may come at any time, and is no part of the step.
    known: set[CodeType] = {one.__code__ for one in gc.callbacks if isinstance(one, FunctionType)}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_code in known:
            return
        code = frame.f_code
        known.add(code)
        if not _is_theirs(code.co_filename):
            return
        names = (*code.co_freevars, *code.co_varnames[: code.co_argcount])
        for name in names:
            if name in frame.f_locals:
                seen[code, name] = _looks_if_it_can(frame.f_locals[name])
        for name in code.co_names:
            if name in frame.f_globals:
                seen[code, name] = _looks_if_it_can(frame.f_globals[name])

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def changed(before: Seen, after: Seen) -> list[str]:
    """Names of what does not look as it did."""
    return list(dict.fromkeys(name for (code, name), look in after.items() if before.get((code, name), look) != look))


def _is_theirs(path: str) -> bool:
    if path.startswith(_OURS):
        return False
    return not path.startswith(_STANDARD) or any(part in path for part in _INSTALLED)


def _looks_if_it_can(value: Any) -> Any:
    """As ``_looks``. What cannot be looked at (its ``repr`` raises) must not break the step of whoever made it."""
    try:
        return _looks(value, _DEPTH)
    except Exception:
        return type(value).__name__


def _looks(value: Any, depth: int) -> Any:
    """Equal while nothing that could count or remember has changed; new tensors in place of old ones are no change."""
    found = of_value(value)
    if found is not NotImplemented:
        return found
    if isinstance(value, Tensor | type | ModuleType | FunctionType | MethodType) or depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return len(value), [(repr(k)[:_MOST], _looks(v, depth - 1)) for k, v in list(value.items())[:_MOST]]
    if isinstance(value, list | tuple | deque):
        return len(value), [_looks(one, depth - 1) for one in list(value)[:_MOST]]
    if isinstance(value, set | frozenset):
        return len(value)
    try:
        own = vars(value)
    except TypeError:
        # Iterators know how much is left, and counters what comes next.
        said = repr(value)
        return type(value).__name__, length_hint(value, -1), "" if " at 0x" in said else said
    return [(name, _looks(one, depth - 1)) for name, one in list(own.items())[:_MOST] if name not in _TORCHS]
