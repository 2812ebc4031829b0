"""What a person's module gives back: its main tensor, and the loss that it may have worked out itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def main_output(outputs: Any) -> Tensor | None:
    """The tensor that named losses and metrics look at: the only one, ``logits``, or the first that is no single number."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        logits = outputs.get("logits")
        return logits if isinstance(logits, Tensor) else _first(outputs.values())
    if isinstance(outputs, tuple | list):
        return _first(outputs)
    logits = getattr(outputs, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def own_loss(outputs: Any) -> Tensor | None:
    """``.loss``, ``["loss"]``, or the single number of a pair: (logits, loss) or (loss, logits). None without."""
    if isinstance(outputs, Tensor):
        return None
    if isinstance(outputs, tuple | list) and not hasattr(outputs, "loss"):
        scalars = [part for part in outputs if _is_number(part)]
        return scalars[0] if len(outputs) == 2 and len(scalars) == 1 else None
    found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    return found.reshape(()) if isinstance(found, Tensor) and found.numel() == 1 else None


def as_tree(outputs: Any) -> Any:
    """The outputs as a tree of tensors, see ``trees``: of mappings, tuples and lists, of an object its fields; the rest is left
    out."""
    return _tree(_fields(outputs), numbers=True)


def without_numbers(outputs: Any) -> Any:
    """The same less single numbers, which are of a batch and not of its rows."""
    return _tree(_fields(outputs), numbers=False)


def like(tree: Any, example: Any) -> Any:
    """A tree of either kind as the person's own function knows it: mappings, named tuples and objects of their class, parts
    of a tuple at their places; None for what was left out."""
    if isinstance(tree, dict) and isinstance(example, Mapping):
        parts = {key: like(part, example[key]) for key, part in tree.items()}
        return parts if type(example) is dict else type(example)(**parts)
    if isinstance(tree, dict):
        thing = copy.copy(example)
        vars(thing).update({key: tree.get(key) for key in vars(example)})
        return thing
    if isinstance(tree, tuple):
        whole = [_tree(part, numbers=True) is not None for part in example]
        there = whole if sum(whole) == len(tree) else [_tree(part, numbers=False) is not None for part in example]
        kept = iter(tree)
        parts = [like(next(kept), part) if has else None for has, part in zip(there, example, strict=True)]
        return type(example)(*parts) if hasattr(example, "_fields") else type(example)(parts)
    return tree


def _fields(outputs: Any) -> Any:
    plain = isinstance(outputs, Tensor | Mapping | tuple | list) or not hasattr(outputs, "__dict__")
    return outputs if plain else vars(outputs)


def _tree(part: Any, numbers: bool) -> Any:
    if isinstance(part, Tensor):
        return part if numbers or part.ndim else None
    if isinstance(part, Mapping):
        pairs = {str(key): _tree(value, numbers) for key, value in part.items()}
        return {key: value for key, value in pairs.items() if value is not None} or None
    if isinstance(part, tuple | list):
        parts = [value for value in (_tree(each, numbers) for each in part) if value is not None]
        return tuple(parts) or None
    return None


def _first(parts: Any) -> Tensor | None:
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return next((part for part in tensors if part.ndim), None)


def _is_number(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim == 0 and part.is_floating_point()
