"""Samples that have to be read: ahead of time, once for all trials, and once at all where they can be kept."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from optim_core.own.reader import Reader, Request, Requests
from optim_core.own.samples import HASHED_ROWS, some_rows, tree_digest
from optim_core.own.streams import seeded
from optim_core.own.trees import layout, leaves, map_tree, put
from optim_core.spec.errors import DataError, WhichoptError
from optim_core.spec.keys import content_hash
from optim_core.vmapped import Streams

# Batches that are read before they are asked for.
AHEAD = 2
# Rows read together when many are wanted, and so many that reading them all to know the targets is no great cost.
CHUNK, QUICK_ROWS = 256, 5_000
# How many samples are read twice, to see whether they are the same again.
TRIED = 16


@dataclass(frozen=True)
class Workers:
    """What a person's DataLoader says of worker processes; ``count`` 0: a background thread reads."""

    count: int = 0
    options: dict[str, Any] = field(default_factory=dict)


class ReadSamples:
    """A map-style data set of ``count`` samples, read when asked. See ``Samples``."""

    def __init__(
        self,
        reader: Reader,
        count: int,
        workers: Workers,
        device: torch.device,
        dtype: torch.dtype,
        hint: Tensor | None = None,
    ) -> None:
        """Reads a few samples to see whether they are drawn anew each time. Raises DataError and UserCodeError."""
        self._reader, self._count, self._workers = reader, count, workers
        self._device, self._dtype, self._hint = device, dtype, hint
        tried = (0, [some_rows(count, TRIED).tolist()])
        with seeded(1):
            streams = Streams()
            self.example = reader.read(tried)
            again = reader.read(tried)
            reader.random = bool(streams.moved()) or not _equal(self.example, again)
        # With a stream of its own it draws anew whatever the global ones are seeded with.
        self._repeats = not reader.random or _equal(reader.read(tried), reader.read(tried))

    @property
    def random(self) -> bool:
        """See ``Samples``."""
        return self._reader.random

    def __len__(self) -> int:
        return self._count

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """See ``Samples``."""
        request, spread = _request(rows, step)
        return self.placed(self._reader.read(request), spread)

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """See ``Samples``. What draws is read between the steps unless worker processes read it: its streams are the steps'."""
        spreads: deque[Tensor | None] = deque()

        def requests() -> Iterator[Request]:
            for step, some in enumerate(rows, first):
                request, spread = _request(some, step)
                spreads.append(spread)
                yield request

        for tree in self.ahead(requests()):
            yield self.placed(tree, spreads.popleft())

    def ahead(self, requests: Iterator[Request]) -> Iterator[Any]:
        """What the reader makes of each request, on the CPU; requests are taken in the caller's own thread."""
        if self._workers.count and not multiprocessing.current_process().daemon:
            return self._by_workers(requests)
        return map(self._reader.read, requests) if self.random else self._by_thread(requests)

    def _by_thread(self, requests: Iterator[Request]) -> Iterator[Any]:
        pool = ThreadPoolExecutor(1, "samples")
        waiting: deque[Future] = deque()
        try:
            for request in requests:
                waiting.append(pool.submit(self._reader.read, request))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _by_workers(self, requests: Iterator[Request]) -> Iterator[Any]:
        with warnings.catch_warnings():
            # Of more workers than cores the person's own loader has told them.
            warnings.simplefilter("ignore")
            loader = DataLoader(
                Requests(self._reader),
                batch_size=None,
                sampler=_Taken(requests),
                collate_fn=_as_it_is,
                num_workers=self._workers.count,
                # Without one of its own the loader draws from the global stream.
                generator=torch.Generator(),
                **self._workers.options,
            )
        for tree in loader:
            if isinstance(tree, WhichoptError):
                raise tree
            yield tree

    def whole(self) -> Any | None:
        """See ``Samples``."""
        return None

    def hint(self) -> Tensor | None:
        """See ``Samples``."""
        return self._hint

    def digest(self) -> str:
        """See ``Samples``. Of samples that no seed repeats the shapes have to do."""
        rows = some_rows(self._count, HASHED_ROWS)
        if not self._repeats:
            return content_hash([self._count, str(layout(self.example))])
        # One by one, since samples may differ in length, or a batch be padded to the longest.
        parts = [self._reader.read((0, [[row]])) for row in rows.tolist()]
        return content_hash([self._count, *map(tree_digest, parts)])

    def placed(self, tree: Any, spread: Tensor | None = None) -> Any:
        """What the reader gave, on the device; ``spread``: which of its groups each trial gets."""
        tree = put(tree, self._device, self._dtype)
        if spread is None:
            return tree
        spread = spread.to(self._device)
        return map_tree(lambda t: t[spread], tree)


class KeptSamples:
    """Samples that are the same at each reading, of one shape and small together: kept on the device once they are read."""

    random = False

    def __init__(self, source: ReadSamples) -> None:
        self._source, count = source, len(source)
        self._kept = map_tree(lambda t: t.new_empty(count, *t.shape[1:]), source.placed(source.example))
        self._device = next(leaves(self._kept)).device
        self._have = torch.zeros(count, dtype=torch.bool)
        self._missing = count

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, rows: Tensor, step: int = 0) -> Any:
        """See ``Samples``."""
        if self._missing and len(lacking := self._lacking(rows, self._have)):
            for part in lacking.split(CHUNK):
                self._keep(part, self._source.batch(part))
        rows = rows.to(self._device)
        return map_tree(lambda t: t[rows], self._kept)

    def batches(self, rows: Iterable[Tensor], first: int = 0) -> Iterator[Any]:
        """See ``Samples``. What one batch asks for is not read again for the next, though it may not have come yet."""
        asked, pending = self._have.clone(), iter(rows)
        coming: deque[tuple[Tensor, Tensor]] = deque()

        def requests() -> Iterator[Request]:
            while self._missing and (some := next(pending, None)) is not None:
                lacking = self._lacking(some, asked)
                asked[lacking] = True
                coming.append((some, lacking))
                yield 0, [lacking.tolist()]

        for tree in self._source.ahead(requests()):
            some, lacking = coming.popleft()
            if tree is not None:
                self._keep(lacking, self._source.placed(tree))
            yield self.batch(some)
        yield from map(self.batch, pending)

    def _lacking(self, rows: Tensor, have: Tensor) -> Tensor:
        wanted = rows.cpu().unique()
        return wanted[~have[wanted]]

    def _keep(self, rows: Tensor, tree: Any) -> None:
        places = rows.to(self._device)

        def store(kept: Tensor, read: Tensor) -> Tensor:
            if kept.shape[1:] != read.shape[1:]:
                shapes = f"{tuple(kept.shape[1:])} and {tuple(read.shape[1:])}"
                message = f"samples have the shapes {shapes}: give a DataLoader with a collate_fn that pads them"
                raise DataError(message, code="shape_mismatch", pointer="/dataset")
            kept[places] = read
            return kept

        map_tree(store, self._kept, tree)
        self._have[rows] = True
        self._missing = int((~self._have).sum())

    def whole(self) -> Any | None:
        """See ``Samples``. Of more than ``QUICK_ROWS`` samples that have not all been read: None."""
        if self._missing and len(self) > QUICK_ROWS:
            return None
        return self.batch(torch.arange(len(self)))

    def hint(self) -> Tensor | None:
        """See ``Samples``."""
        return self._source.hint()

    def digest(self) -> str:
        """See ``Samples``."""
        return self._source.digest()


class _Taken:
    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self._requests


def _as_it_is(tree: Any) -> Any:
    return tree


def _request(rows: Tensor, step: int) -> tuple[Request, Tensor | None]:
    """(B,) or (K, B) rows → what to read, and (K,) which of the groups read each trial gets; None: there is but one."""
    if rows.ndim == 1:
        return (step, [rows.tolist()]), None
    groups = [tuple(group) for group in rows.tolist()]
    distinct = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return (step, list(distinct)), torch.tensor([distinct[group] for group in groups])


def _equal(a: Any, b: Any) -> bool:
    if layout(a) != layout(b):
        return False
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(torch.equal(x, y) or torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in pairs)


def kept_once_read(source: ReadSamples, most_bytes: int) -> ReadSamples | KeptSamples:
    """The same samples, kept where they repeat themselves and take at most so many bytes together.

    Not for samples with a collate_fn: it may do more than put them side by side, pad to the longest or draw masks.
    """
    size = sum(t[0].nbytes for t in leaves(source.placed(source.example))) * len(source)
    return source if source.random or size > most_bytes else KeptSamples(source)
