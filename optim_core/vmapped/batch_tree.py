"""Batches as people pass them: any nesting, with tensors at the leaves."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor


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
