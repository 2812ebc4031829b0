"""Reading samples of a map-style data set and putting them together: what a background thread or a worker process does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from optim_core.own.streams import seeded
from optim_core.own.trees import layout, map_tree, refuse_text_targets, samples_in, tidy
from optim_core.own.user_code import user_code
from optim_core.spec.errors import DataError, WhichoptError
from optim_core.spec.keys import derive_seed

Groups = Sequence[Sequence[int]]
# The rows of each trial, all of one length, and the step they are for.
Request = tuple[int, Groups]


class Reader:
    """Samples of ``data`` by number, put together by ``collate`` (None: as torch's DataLoader does).

    ``random``: draws while it reads; then a request always draws the same.
    """

    def __init__(self, data: Any, collate: Callable[[list], Any] | None, seed: int) -> None:
        self._data, self._collate, self._seed = data, collate, seed
        self.random = False

    def read(self, request: Request) -> Any:
        """One group → a tree of tensors on the CPU, samples first; several → with an axis of groups before; no rows → None.

        A sample that several groups want is read once. Each group is put together by itself, so that what it is padded to
        does not depend on the others, except where the results have different shapes and could not lie side by side.
        """
        step, groups = request
        if not any(groups):
            return None
        wanted = list(dict.fromkeys(row for group in groups for row in group))
        seed = derive_seed("read", self._seed, step, wanted[0], wanted[-1])
        with torch.no_grad(), seeded(seed) if self.random else nullcontext():
            samples = dict(zip(wanted, self._samples(wanted), strict=True))
            if self._collate is None:
                _refuse_gaps(samples)
            trees = [self._together([samples[row] for row in group]) for group in groups]
            if len(trees) == 1:
                return trees[0]
            if all(layout(tree) == layout(trees[0]) for tree in trees):
                return map_tree(lambda *each: torch.stack(each), *trees)
            joint = self._together([samples[row] for group in groups for row in group])
        return map_tree(lambda t: t.unflatten(0, (len(groups), -1)), joint)

    def _samples(self, rows: list[int]) -> list[Any]:
        with user_code("reading samples"):
            if hasattr(self._data, "__getitems__"):
                return list(self._data.__getitems__(rows))
            return [self._data[row] for row in rows]

    def _together(self, samples: list[Any]) -> Any:
        if self._collate is not None:
            with user_code("in collate_fn"):
                batch = self._collate(samples)
        else:
            batch = _collated(samples)
        refuse_text_targets(batch)
        tree = tidy(batch)
        if samples_in(tree) != len(samples):
            message = (
                f"{len(samples)} samples became a batch of {samples_in(tree)}: batches must have the samples first"
            )
            raise DataError(message, code="shape_mismatch", pointer="/dataset")
        return tree


def _collated(samples: list[Any]) -> Any:
    try:
        return default_collate([_without_none(sample) for sample in samples])
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"the samples do not make a batch: {reason}; give a DataLoader with a collate_fn that makes one"
        raise DataError(message, code="shape_mismatch", pointer="/dataset") from error


def _refuse_gaps(samples: Mapping[int, Any]) -> None:
    """A part that is None in every sample is left out; one that is None in some of them is missing there. Raises DataError."""
    gaps = {row: _gaps(sample) for row, sample in samples.items()}
    always = frozenset.intersection(*gaps.values())
    for row, places in gaps.items():
        for place in sorted(places - always, key=str):
            what = f"part {place + 1}" if isinstance(place, int) else repr(place)
            message = f"sample {row}: its {what} is None, and other samples have a value there"
            raise DataError(message, code="missing_value", pointer="/dataset")


def _gaps(sample: Any) -> frozenset[Any]:
    parts = (
        sample.items() if isinstance(sample, Mapping) else enumerate(sample) if type(sample) in (tuple, list) else ()
    )
    return frozenset(place for place, value in parts if value is None)


def _without_none(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return {key: value for key, value in sample.items() if value is not None}
    if type(sample) in (tuple, list) and any(value is None for value in sample):
        return tuple(value for value in sample if value is not None)
    return sample


class Requests(Dataset):
    """A reader as torch's DataLoader wants it: what is asked for is a request, and the answer a tree or what went wrong."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getitem__(self, request: Request) -> Any:
        try:
            return self._reader.read(request)
        except WhichoptError as error:
            # A worker's error would arrive with a page of its process around it.
            if get_worker_info() is None:
                raise
            return error
