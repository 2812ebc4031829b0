"""Rows of a data set as batches: the interface, tensors that are held, and some rows of other samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from optim_core.own.trees import leaves, map_tree, put, samples_in
from optim_core.spec.keys import content_hash

# What is smaller than this is held on the device, and cast once.
MOST_HELD_BYTES = 512 * 2**20
# A data set that has to be read is recognised by so many of its rows.
HASHED_ROWS = 32


class Samples(Protocol):
    """Numbered samples. A batch is a tree of tensors on the task's device, samples first; see ``trees``.

    ``random``: a sample differs from reading to reading, as with augmentation.
    """

    @property
    def random(self) -> bool: ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """(B,) row numbers → a batch; (K, B) → the same with an axis of K trials first.

        ``step``: with the rows, what a random augmentation draws depends on.
        """
        ...

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """The batch of each of ``rows`` in turn, read ahead of time. ``first``: the step of the first."""
        ...

    def whole(self) -> Any | None:
        """All samples as one batch where they are or may be held at no great cost, else None."""
        ...

    def hint(self) -> Tensor | None:
        """(n,) whole numbers that the data set itself calls its targets; on the CPU. None where it does not."""
        ...

    def digest(self) -> str:
        """A hash of the content: of held tensors all bytes, else of the number of samples and ``HASHED_ROWS`` of them."""
        ...


class TensorSamples:
    """A tree of tensors, samples first. Small ones lie on the device, large ones where they are. Raises DataError."""

    random = False

    def __init__(self, tree: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._count, self._device, self._dtype = samples_in(tree), device, dtype
        self._small = sum(t.nbytes for t in leaves(tree)) <= MOST_HELD_BYTES
        self._tree = put(tree, device, dtype) if self._small else tree

    def __len__(self) -> int:
        return self._count

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """See ``Samples``."""
        if self._small:
            rows = rows.to(self._device)
            return map_tree(lambda t: t[rows], self._tree)
        rows = rows.cpu()
        return put(map_tree(lambda t: t[rows.to(t.device)], self._tree), self._device, self._dtype)

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """See ``Samples``."""
        return (self.batch(some) for some in rows)

    def whole(self) -> Any | None:
        """See ``Samples``."""
        return self._tree

    def hint(self) -> Tensor | None:
        """See ``Samples``."""
        return None

    def digest(self) -> str:
        """See ``Samples``."""
        return tree_digest(self._tree)


class SomeRows:
    """Samples of which only the given rows, (n,) int64, count, in this order."""

    def __init__(self, samples: Samples, rows: Tensor) -> None:
        self._samples, self._rows = samples, rows.cpu()
        self._moved = self._rows

    @property
    def random(self) -> bool:
        return self._samples.random

    def __len__(self) -> int:
        return len(self._rows)

    def _of(self, rows: Tensor) -> Tensor:
        if self._moved.device != rows.device:
            self._moved = self._rows.to(rows.device)
        return self._moved[rows]

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """See ``Samples``."""
        return self._samples.batch(self._of(rows), step)

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """See ``Samples``."""
        return self._samples.batches((self._of(some) for some in rows), first)

    def whole(self) -> Any | None:
        """See ``Samples``."""
        tree = self._samples.whole()
        return None if tree is None else map_tree(lambda t: t[self._rows.to(t.device)], tree)

    def hint(self) -> Tensor | None:
        """See ``Samples``."""
        known = self._samples.hint()
        return None if known is None else known[self._rows]

    def digest(self) -> str:
        """See ``Samples``."""
        return content_hash([self._samples.digest(), tree_digest(self._rows)])


def tree_digest(tree: Any) -> str:
    """SHA-256 over type, shape and bytes of each tensor, as 64 hexadecimal characters."""
    digest = hashlib.sha256()
    for tensor in leaves(tree):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        # Part by part: what lies on a device or in a mapped file need not fit into memory at once.
        for part in tensor.reshape(len(tensor) if tensor.ndim else 1, -1).split(65_536):
            digest.update(part.cpu().flatten().clone().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def some_rows(count: int, at_most: int) -> Tensor:
    """At most so many row numbers, evenly spread over all."""
    return torch.arange(count) if count <= at_most else torch.linspace(0, count - 1, at_most).long()
