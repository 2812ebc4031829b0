"""Batches as trees: dicts and tuples of tensors, samples first. What cannot go into a network is left out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from optim_core.spec.errors import DataError

# What the target of a sample is called, and an argument of ``forward`` that wants it to work the loss out itself.
LABELS = ("labels", "label", "targets", "target", "label_ids", "y")
_LEFT_OUT = object()


def tidy(value: Any) -> Any:
    """Any batch as a tree: mappings become dicts, lists and named tuples tuples, arrays tensors; texts, None and the like go.

    Raises DataError for packed sequences, whose samples do not come first.
    """
    found = _tidied(value)
    if found is _LEFT_OUT:
        message = f"a batch is of type {type(value).__name__}, in which there is nothing to compute with"
        raise DataError(message, code="unsupported_dtype", pointer="/dataset")
    return found


def _tidied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, PackedSequence):
        message = "a batch holds a PackedSequence; give padded tensors and their lengths, and pack them in forward"
        raise DataError(message, code="unsupported_dtype", pointer="/dataset")
    if isinstance(value, (np.ndarray, np.generic)):
        return _LEFT_OUT if value.dtype.kind not in "biufc" else torch.as_tensor(value)
    if isinstance(value, Mapping):
        pairs = {str(key): _tidied(item) for key, item in value.items()}
        return {key: item for key, item in pairs.items() if item is not _LEFT_OUT} or _LEFT_OUT
    if isinstance(value, (tuple, list)):
        items = [item for item in map(_tidied, value) if item is not _LEFT_OUT]
        return tuple(items) if items else _LEFT_OUT
    return value if isinstance(value, (bool, int, float)) else _LEFT_OUT


def refuse_text_targets(batch: Any) -> None:
    """What ``tidy`` leaves out must not be the targets: the last part beside a single other one, or what is called so. Raises
    DataError.
    """
    place, texts = "the last part", None
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        texts = _texts(batch[1])
    elif isinstance(batch, Mapping):
        place, texts = next(((repr(key), found) for key in LABELS if (found := _texts(batch.get(key)))), (place, None))
    if texts:
        message = f"the targets, {place} of a sample, are text ({', '.join(texts)}): give each class a number, 0, 1, …"
        raise DataError(message, code="unsupported_dtype", pointer="/dataset")


def _texts(value: Any) -> list[str] | None:
    """The first few different texts of a column of them."""
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(one, str) for one in value):
        return None
    return [repr(one[:40]) for one in dict.fromkeys(value)][:3]


def map_tree(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree with each tensor, and those at its place in ``others``, replaced by what ``function`` makes of them."""
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, dict):
        return {key: map_tree(function, item, *(other[key] for other in others)) for key, item in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_tree(function, *items) for items in zip(tree, *others, strict=True))
    return tree


def leaves(tree: Any) -> Iterator[Tensor]:
    """Its tensors, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(item)


def layout(tree: Any) -> Any:
    """What makes two trees stackable: structure, and each tensor's shape and type."""
    if isinstance(tree, dict):
        return {key: layout(item) for key, item in tree.items()}
    if isinstance(tree, tuple):
        return tuple(layout(item) for item in tree)
    return (tuple(tree.shape), tree.dtype) if isinstance(tree, Tensor) else tree


def put(tree: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The tree on a device, its real numbers in ``dtype``; whole numbers, booleans and complex ones keep their type."""
    return map_tree(lambda t: t.to(device, dtype if t.is_floating_point() else None), tree)


def samples_in(tree: Any) -> int:
    """How many samples a batch has. Raises DataError unless all its tensors agree."""
    counts = {len(t) if t.ndim else 0 for t in leaves(tree)}
    if len(counts) != 1 or 0 in counts:
        found = ", ".join(str(tuple(t.shape)) for t in leaves(tree)) or "no tensors"
        message = f"the tensors of a batch must have the samples first and as many each; they are {found}"
        raise DataError(message, code="shape_mismatch", pointer="/dataset")
    return counts.pop()
