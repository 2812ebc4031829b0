"""What a person's module gives back: its main tensor, and the loss that it may have worked out itself."""

from __future__ import annotations

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
    """The outputs as a tree of tensors; what is none is left out. See ``trees``."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        pairs = {str(key): as_tree(value) for key, value in outputs.items()}
        return {key: value for key, value in pairs.items() if value is not None} or None
    if isinstance(outputs, tuple | list):
        parts = [part for part in map(as_tree, outputs) if part is not None]
        return tuple(parts) or None
    return as_tree(vars(outputs)) if hasattr(outputs, "__dict__") else None


def like(tree: Any, example: Any) -> Any:
    """A tree from ``as_tree`` as what the person's own function knows: mappings of their class, named tuples by name."""
    if isinstance(tree, dict) and type(example) is not dict and isinstance(example, Mapping):
        return type(example)(**tree)
    if isinstance(tree, tuple) and hasattr(example, "_fields") and len(example) == len(tree):
        return type(example)(*tree)
    return tree


def _first(parts: Any) -> Tensor | None:
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return next((part for part in tensors if part.ndim), None)


def _is_number(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim == 0 and part.is_floating_point()
