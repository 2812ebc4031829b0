"""Batches as people pass them: any nesting, with tensors at the leaves."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from optim_core.vmapped.torch_private import version


def rebuilt(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same nesting with ``change`` of each tensor, from left to right. Mappings keep their class (so ``BatchEncoding``
    stays one), and what is neither a container nor a tensor is passed on as it is.
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple):
        items = [rebuilt(item, change) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [rebuilt(item, change) for item in tree]
    if isinstance(tree, MutableMapping):
        new = copy.copy(tree)
        for key, value in tree.items():
            new[key] = rebuilt(value, change)
        return new
    if isinstance(tree, Mapping):
        return {key: rebuilt(value, change) for key, value in tree.items()}
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        new = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(new, field.name, rebuilt(getattr(tree, field.name), change))
        return new
    return tree


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors, in the order of ``rebuilt``."""
    found: list[Tensor] = []
    rebuilt(tree, lambda x: found.append(x) or x)
    return found


def with_tensors(tree: Any, tensors: list[Tensor]) -> Any:
    """The same nesting with other tensors, in the order of ``tensors_of``."""
    rest: Iterator[Tensor] = iter(tensors)
    return rebuilt(tree, lambda _: next(rest))


def of_trial(tree: Any, k: int, *, shared: bool) -> Any:
    """What trial ``k`` sees, in memory of its own: a module may write into its input."""
    return rebuilt(tree, lambda x: (x if shared else x[k]).clone())


class Copies:
    """A batch for one trial after the other, which may write into it. ``once``: one copy for all, for as long as nobody does:
    not for a module that writes behind autograd's back, where ``version`` does not see it.
    """

    def __init__(self, batch: Any, *, shared: bool, once: bool) -> None:
        self._batch, self._shared, self._once = batch, shared, shared and once
        self._given: list[Tensor] = []
        self._versions: list[int] = []
        self._trial = 0

    def of(self, k: int) -> Any:
        """What trial ``k`` sees."""
        if not (self._once and self._given and self._untouched()):
            found = of_trial(self._batch, k, shared=self._shared)
            self._trial, self._given = k, tensors_of(found)
            self._versions = list(map(version, self._given))
            return found
        return with_tensors(self._batch, self._given)

    def _untouched(self) -> bool:
        return not any(x.requires_grad for x in self._given) and self._versions == list(map(version, self._given))

    def written(self) -> bool:
        """Whether the last trial wrote into what it saw."""
        whole = tensors_of(of_trial(self._batch, self._trial, shared=self._shared))
        return not (self._untouched() and all(map(torch.equal, whole, self._given)))


def signature(tree: Any) -> Any:
    """Everything about a batch but the values of its tensors, to be a key: nesting, shapes, dtypes, strides, and what is no
    tensor. None where something in it cannot be compared by what it says.
    """
    try:
        return _signature(tree)
    except TypeError:
        return None


def _signature(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.shape, tree.stride(), tree.dtype, tree.device
    if isinstance(tree, tuple | list):
        return type(tree), *(_signature(item) for item in tree)
    if isinstance(tree, Mapping):
        return type(tree), *((key, _signature(value)) for key, value in tree.items())
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return type(tree), *(_signature(getattr(tree, field.name)) for field in dataclasses.fields(tree))
    if tree is None or isinstance(tree, bool | int | float | complex | str | bytes):
        return type(tree), tree
    raise TypeError(type(tree).__name__)
