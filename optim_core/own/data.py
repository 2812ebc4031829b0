"""What people have their data in, and what samples it becomes: tensors, arrays, data sets, Hugging Face tables, DataLoaders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)  # fmt: skip

from optim_core.own.reader import Reader
from optim_core.own.reading import ReadSamples, Workers, kept_once_read
from optim_core.own.samples import MOST_HELD_BYTES, Samples, SomeRows, TensorSamples
from optim_core.own.user_code import user_code
from optim_core.spec.errors import DataError

POINTER = "/dataset"
ITERABLE = (
    "the data can only be iterated over; trials need samples by number: give a data set with __len__ and __getitem__ "
    "(load it into one, or index its files), or keep your own loop and let it ask and tell (README: Your own loop)"
)
_OPTIONS = ("timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor")
# By these names data sets offer the targets of all samples without reading them.
_TARGETS = ("targets", "labels", "y")


def samples_of(data: Any, seed: int, device: torch.device, dtype: torch.dtype) -> Samples:
    """One data set as samples. ``seed``: of what its reading draws. Raises DataError, and UserCodeError from its own code."""
    if isinstance(data, DataLoader):
        return _of_loader(data, seed, device, dtype)
    if isinstance(data, TensorDataset):
        return TensorSamples(tuple(data.tensors), device, dtype)
    tree = arrays_in(data)
    if tree is not None:
        return TensorSamples(tree, device, dtype)
    return _of_dataset(data, None, Workers(), seed, device, dtype)


def arrays_in(data: Any) -> Any | None:
    """Tensors and arrays, alone or in tuples and dicts, as a tree of tensors; None for anything else."""
    if isinstance(data, (Tensor, np.ndarray)) or hasattr(data, "__array__"):
        return _tensor(data)
    if isinstance(data, list) and len(data) > 3 and all(isinstance(part, tuple | list | Mapping) for part in data):
        return None  # a list of samples
    if isinstance(data, tuple | list):
        parts = [arrays_in(part) for part in data]
        return tuple(parts) if parts and all(part is not None for part in parts) else None
    if isinstance(data, Mapping):
        named = {str(key): arrays_in(part) for key, part in data.items()}
        return named if named and all(part is not None for part in named.values()) else None
    return None


def _tensor(data: Any) -> Tensor:
    if isinstance(data, Tensor):
        return data.detach()
    array = np.asarray(data)
    if array.dtype.kind not in "biufc":
        message = f"an array of type {array.dtype}: numbers are needed"
        raise DataError(message, code="unsupported_dtype", pointer=POINTER)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch shares memory only with arrays that may be written and run forwards.
    forwards = all(stride >= 0 for stride in native.strides)
    return torch.from_numpy(native if native.flags.writeable and forwards else native.copy())


def _of_loader(loader: DataLoader, seed: int, device: torch.device, dtype: torch.dtype) -> Samples:
    """Its data set, collate_fn, workers and, of what its sampler draws, which rows: their order and number are the study's."""
    if isinstance(loader.dataset, IterableDataset):
        raise DataError(ITERABLE, code="iterable_data", pointer=POINTER)
    if loader.batch_sampler is None:
        message = "the DataLoader has batch_size=None: its data set gives whole batches; give one that gives samples"
        raise DataError(message, code="unsupported_data", pointer=POINTER)
    rows = _sampled(loader)
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    if collate is None and isinstance(loader.dataset, TensorDataset):
        samples = samples_of(loader.dataset, seed, device, dtype)
    else:
        options = {name: getattr(loader, name) for name in _OPTIONS} if loader.num_workers else {}
        samples = _of_dataset(loader.dataset, collate, Workers(loader.num_workers, options), seed, device, dtype)
    return samples if rows is None else SomeRows(samples, rows)


def _sampled(loader: DataLoader) -> Tensor | None:
    """The rows that the loader's own sampler goes through; None: all. What draws rows again and again is refused."""
    sampler: Any = loader.batch_sampler
    if type(sampler) is BatchSampler:
        sampler = sampler.sampler
        if isinstance(sampler, SequentialSampler | RandomSampler):
            return None
    if isinstance(sampler, WeightedRandomSampler):
        raise _weighted()
    with user_code("in the sampler"):
        drawn = [row for some in sampler for row in (some if isinstance(some, list | tuple) else [some])]
    rows = torch.tensor([int(row) for row in drawn], dtype=torch.int64).sort().values
    if len(rows.unique()) != len(rows):
        raise _weighted()
    return None if len(rows) == len(loader.dataset) else rows  # type: ignore[arg-type]


def _weighted() -> DataError:
    message = (
        "the DataLoader's sampler draws some rows more often than others; in a study each epoch has every row once: put "
        "the weights into the loss, or repeat the rows in the data set (torch.utils.data.Subset with repeated numbers)"
    )
    return DataError(message, code="unsupported_data", pointer=POINTER)


def _of_dataset(
    data: Any, collate: Any, workers: Workers, seed: int, device: torch.device, dtype: torch.dtype
) -> Samples:
    if isinstance(data, IterableDataset | Iterator) or not hasattr(data, "__getitem__"):
        if hasattr(data, "__iter__"):
            raise DataError(ITERABLE, code="iterable_data", pointer=POINTER)
        message = f"data of type {type(data).__name__}: give data sets, tensors, arrays or DataLoaders"
        raise DataError(message, code="unsupported_data", pointer=POINTER)
    count = _length(data)
    if isinstance(data, Subset) and collate is None and isinstance(data.dataset, TensorDataset):
        return SomeRows(samples_of(data.dataset, seed, device, dtype), torch.as_tensor(list(data.indices)))
    if collate is None:
        data = _as_tensors(data)
    source = ReadSamples(Reader(data, collate, seed), count, workers, device, dtype, _hinted(data, count))
    return source if collate is not None else kept_once_read(source, MOST_HELD_BYTES)


def _as_tensors(table: Any) -> Any:
    """A Hugging Face table that gives lists, which torch would put side by side the wrong way round, as one that gives
    tensors; the person's own stays as it is. Anything else unchanged."""
    plain = hasattr(table, "with_format") and (getattr(table, "format", None) or {}).get("type") is None
    return table.with_format("torch") if plain else table


def _length(data: Any) -> int:
    count = None
    with user_code("in __len__"), suppress(TypeError, NotImplementedError):
        count = len(data)
    if count is None:
        raise DataError(ITERABLE, code="iterable_data", pointer=POINTER)
    if count == 0:
        raise DataError("the data set has no samples", code="too_few_rows", pointer=POINTER)
    return count


def _hinted(data: Any, count: int) -> Tensor | None:
    """(n,) whole numbers by one of ``_TARGETS``, also through subsets."""
    if isinstance(data, Subset):
        whole = _hinted(data.dataset, len(data.dataset))  # type: ignore[arg-type]
        return None if whole is None else whole[torch.as_tensor(list(data.indices))]
    for name in _TARGETS:
        found = getattr(data, name, None)
        if isinstance(found, list | tuple) and found and not isinstance(found[0], int):
            continue
        if isinstance(found, Tensor | np.ndarray | list | tuple) and len(found) == count:
            codes = torch.as_tensor(np.asarray(found) if not isinstance(found, Tensor) else found)
            if codes.ndim == 1 and not codes.is_floating_point() and not codes.is_complex():
                return codes.cpu().long()
    return None
