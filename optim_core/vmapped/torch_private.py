"""Every name of torch that this room uses and torch does not promise to keep, in one place.

Where one is gone, ``missing`` says so, nothing is trained K at a time, and everything still trains one by one: what is used
there has a substitute below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import checkpoint as torch_checkpoint

TESTED = ("2.13",)

# Where each name lives. All are needed to train K at a time, those of ``_ALONE`` are used one by one, too.
_NAMES = {
    "is_batched": ("torch._C._functorch", "is_batchedtensor"),
    "axis_of": ("torch._C._functorch", "maybe_get_bdim"),
    "level_of": ("torch._C._functorch", "maybe_get_level"),
    "unwrapped": ("torch._C._functorch", "get_unwrapped"),
    "wrapped": ("torch._C._functorch", "_add_batch_dim"),
    "current_level": ("torch._C._functorch", "maybe_current_level"),
    "pop_level": ("torch._C._functorch", "pop_dynamic_layer_stack"),
    "push_level": ("torch._C._functorch", "push_dynamic_layer_stack"),
    "warn_of_loops": ("torch._C._functorch", "_set_vmap_fallback_warning_enabled"),
    "holds": ("torch", "ops.aten._assert_async.msg"),
    "pack_padded": ("torch", "_VF._pack_padded_sequence"),
    "pad_packed": ("torch", "_VF._pad_packed_sequence"),
    "checkpoint_function": ("torch.utils.checkpoint", "CheckpointFunction"),
    "checkpoint_steps": ("torch.utils.checkpoint", "_checkpoint_without_reentrant_generator"),
}
# What recording a step needs beside those. Looked for when it is wanted: with it comes most of torch's compiler, a second.
_RECORDER = ("torch.fx.experimental.proxy_tensor", "make_fx")
_CHECKPOINT = ("checkpoint_function", "checkpoint_steps")


def _found(module: str, path: str) -> Any:
    try:
        value: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


_FOUND = {name: _found(*place) for name, place in _NAMES.items()}

is_batched = _FOUND["is_batched"]
axis_of = _FOUND["axis_of"]
level_of = _FOUND["level_of"]
unwrapped = _FOUND["unwrapped"]
wrapped = _FOUND["wrapped"]
pop_level = _FOUND["pop_level"]
push_level = _FOUND["push_level"]
# ``holds(condition, message)``: raises where a tensor on a CPU is false, without asking Python, so that it can be recorded.
holds = _FOUND["holds"]
pack_padded = _FOUND["pack_padded"]
pad_packed = _FOUND["pad_packed"]


def missing() -> str:
    """The names that this torch does not have, in a line; empty when all are there."""
    return ", ".join(".".join(_NAMES[name]) for name, value in _FOUND.items() if value is None)


def recorder() -> Callable[..., Any] | None:
    """``make_fx``: calls a function with tensors that have shapes but no values, and notes each operation."""
    return _found(*_RECORDER)


def is_operation(x: Any) -> bool:
    """Whether it is one of torch's operations, of one overload, as recordings have them."""
    return isinstance(x, type(torch.ops.aten.add.Tensor))


@contextmanager
def values_unasked() -> Iterator[None]:
    """Inside, libraries that check values of tensors only where nothing is compiled do not."""
    before = getattr(torch.compiler, "_is_compiling_flag", False)
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before


def current_level() -> int:
    """How many of torch's function transforms (vmap, grad) are at work here; 0 for none."""
    ask = _FOUND["current_level"]
    return 0 if ask is None else ask() or 0


class outside:
    """Inside, the innermost transform does not see what is calculated. A class, because it is entered for every function."""

    __slots__ = ("_saved",)

    def __enter__(self) -> None:
        self._saved = pop_level()

    def __exit__(self, *_: object) -> None:
        push_level(self._saved)


@contextmanager
def loops_unreported() -> Iterator[None]:
    """Inside, vmap does not warn of functions that it runs trial by trial."""
    _FOUND["warn_of_loops"](False)
    try:
        yield
    finally:
        _FOUND["warn_of_loops"](True)


def copy_all_(into: list[Tensor], values: list[Tensor]) -> None:
    """Copy each of ``values`` into the tensor of ``into`` at its place."""
    if into:
        torch._foreach_copy_(into, values)


def version(x: Tensor) -> int:
    """How often the tensor has been written into."""
    return x._version


def checkpoint_plainly(is_ours: Any) -> None:
    """Make ``torch.utils.checkpoint.checkpoint`` a plain call wherever ``is_ours()``, however it was imported. Once is enough.

    A checkpoint calculates again during backward, when neither vmap nor the numbers of the step are there any more.
    """
    own_function, own_steps = (_FOUND[name] for name in _CHECKPOINT)
    if own_function is None or own_steps is None:
        return

    def steps(function: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        return iter((None,)) if is_ours() else own_steps(function, *args, **kwargs)

    def apply(cls: Any, function: Any, preserve: bool, *args: Any) -> Any:
        return function(*args) if is_ours() else own_function.apply(function, preserve, *args)

    # A class like the one it stands for, to be subclassed and asked as that one.
    plain = type(own_function.__name__, (own_function,), {"apply": classmethod(apply), "__doc__": own_function.__doc__})
    setattr(torch_checkpoint, _NAMES["checkpoint_function"][1], plain)
    setattr(torch_checkpoint, _NAMES["checkpoint_steps"][1], steps)
