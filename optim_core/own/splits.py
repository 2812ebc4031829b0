"""Training, validation and test samples from what a person gives: one data set, two or all three."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from optim_core.data.split import SplitRows, asked_batch, split_rows
from optim_core.data.text import counted, plural
from optim_core.own.data import POINTER, arrays_in
from optim_core.own.samples import Samples, SomeRows
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed
from optim_core.spec.problem import StudySpec

_NAMES = {"train": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "eval": 1, "test": 2}
# A class with fewer samples cannot be in all of training, validation and test.
_FEWEST = 3


@dataclass(frozen=True)
class Splits:
    """``folds``: how many take turns as test samples, 1 for none. ``report``: what was split how, a sentence each. ``batch``:
    samples of an optimizer step, as asked or what the training samples of every fold allow.
    """

    train: Samples
    validation: Samples
    test: Samples
    folds: int
    report: list[str]
    batch: int


def fitting_batch(spec: StudySpec, fewest: int, what: str = "sample") -> tuple[int, list[str]]:
    """See ``Splits.batch``, and the sentence that says so where it is not what was asked for. ``fewest``: training samples."""
    asked = asked_batch(spec)
    if asked <= fewest:
        return asked, []
    said = f"Batches have {plural(fewest, what)} rather than {asked:,}: all {fewest:,} training {what}s."
    return fewest, [said]


def parts_of(data: Any) -> list[Any]:
    """[train], [train, validation] or [train, validation, test] from a data set, several in a row or by name.

    A tuple of tensors or arrays is one data set, (X, y). Raises DataError.
    """
    if isinstance(data, Mapping) and data and set(map(str, data)) <= set(_NAMES):
        return _by_name(data)
    if isinstance(data, tuple | list) and arrays_in(data) is not None:
        return _arrays(data)
    if isinstance(data, tuple) or (isinstance(data, list) and len(data) <= 3 and all(map(_is_data_set, data))):
        if not 1 <= len(data) <= 3 or not all(map(_is_data_set, data)):
            kinds = ", ".join(type(part).__name__ for part in data)
            message = f"data is ({kinds}); give one data set, (train, validation) or (train, validation, test)"
            raise DataError(message, code="unsupported_data", pointer=POINTER)
        return list(data)
    return [data]


def _by_name(data: Mapping) -> list[Any]:
    found: dict[int, Any] = {}
    for name, part in data.items():
        if _NAMES[str(name)] in found:
            message = f"data names the same split twice: {', '.join(map(str, data))}"
            raise DataError(message, code="unsupported_data", pointer=POINTER)
        found[_NAMES[str(name)]] = part
    if sorted(found) == [0, 2]:
        # The test samples stay what they are; the validation samples are cut from the training ones.
        return [found[0], None, found[2]]
    if sorted(found) != list(range(len(found))):
        message = f"data has {', '.join(map(str, data))}; a split called train is needed"
        raise DataError(message, code="unsupported_data", pointer=POINTER)
    return [found[i] for i in range(len(found))]


def _arrays(data: Sequence) -> list[Any]:
    """Arrays side by side are one data set; pairs of them, whose samples are counted apart, are several."""
    if all(isinstance(part, tuple | list | Mapping) for part in data) and 2 <= len(data) <= 3:
        return list(data)
    lengths = {len(part) for part in data if hasattr(part, "shape")}
    if len(lengths) > 1:
        shown = ", ".join(str(len(part)) if hasattr(part, "shape") else "…" for part in data)
        message = f"the arrays have {shown} samples; give ((X, y), (X_val, y_val)) for several splits"
        raise DataError(message, code="shape_mismatch", pointer=POINTER)
    return [data]


def _is_data_set(part: Any) -> bool:
    if isinstance(part, Dataset | DataLoader) or arrays_in(part) is not None:
        return True
    # Whether it can be read by number is for its reader to say.
    return not isinstance(part, str | bytes | tuple) and (hasattr(part, "__getitem__") or hasattr(part, "__iter__"))


def split_samples(
    given: Sequence[Samples | None], spec: StudySpec, codes_of: Callable[[Samples], Tensor | None], fold: int | None
) -> Splits:
    """The splits of one fold, drawn from the study's seed as those of tables are.

    One data set: five folds, or with other fractions than the usual one split of its own; samples whose target is a class
    code are dealt class by class. Two: the test samples are cut from the training ones. Three: as given; where the second is
    None it is cut from the training ones. ``codes_of``: (n,) class codes of samples, None where there are none. ``fold``: None
    is 0. Raises DataError, ValueError for a fold of what has none.
    """
    first = given[0]
    assert first is not None
    if len(given) == 1 and spec.in_folds:
        return _in_folds(first, spec, codes_of(first), fold or 0)
    if fold is not None:
        raise ValueError("this study has one split of its own and no folds")
    if len(given) == 1:
        rows, how = _cut(first, spec, codes_of(first))
        train, validation, test = (_some(first, part) for part in (rows.train, rows.validation, rows.test))
        how = f"{plural(len(first), 'sample')} split at random{how}: "
    elif len(given) == 2:
        assert given[1] is not None
        left, cut = _cut_one(first, spec, codes_of(first), spec.training.test_fraction, "test")
        train, validation, test, how = left, given[1], cut, "The test samples are cut from the training ones: "
    elif given[1] is None:
        assert given[2] is not None
        left, cut = _cut_one(first, spec, codes_of(first), spec.training.validation_fraction, "validation")
        train, validation, test, how = left, cut, given[2], "The validation samples are cut from the training ones: "
    else:
        assert given[2] is not None
        train, validation, test, how = first, given[1], given[2], "Splits as given: "
    counts = f"{len(train):,} for training, {len(validation):,} for validation and {len(test):,} for the final test."
    report = [how + counts]
    if first.random and (len(given) < 3 or given[1] is None):
        report.append(_augmented())
    _check(train, validation, test)
    batch, said = fitting_batch(spec, len(train))
    return Splits(train, validation, test, 1, report + said, batch)


def _in_folds(samples: Samples, spec: StudySpec, codes: Tensor | None, fold: int) -> Splits:
    y, names = _groups(codes, len(samples))
    splits = split_rows(spec, y, names)
    if fold >= len(splits):
        raise ValueError(f"this study has {len(splits)} folds")
    rows = splits[fold]
    counts = splits[0].counts
    how = ", with each class's share in each" if names else ""
    report = [
        f"{plural(len(samples), 'sample')} in {counted(len(splits))} folds{how}: the search trains on {counts['train']:,}, "
        f"looks at {counts['validation']:,} and leaves {counts['test']:,}; the confirmation lets each fold be the test samples "
        "in turn."
    ]
    if samples.random:
        report.append(_augmented())
    train, validation, test = (_some(samples, part) for part in (rows.train, rows.validation, rows.test))
    batch, said = fitting_batch(spec, min(len(each.train) for each in splits))
    return Splits(train, validation, test, len(splits), report + said, batch)


def _cut(samples: Samples, spec: StudySpec, codes: Tensor | None) -> tuple[SplitRows, str]:
    y, names = _groups(codes, len(samples))
    return split_rows(spec, y, names)[0], " within each class" if names else ""


def _cut_one(
    samples: Samples, spec: StudySpec, codes: Tensor | None, fraction: float, name: str
) -> tuple[Samples, Samples]:
    """(rest, cut): that share of the samples, of each class if there are any; at least one sample, at most all but two."""
    y, names = _groups(codes, len(samples))
    rng = np.random.default_rng(derive_seed(spec.seed, "split", name))
    groups = [np.flatnonzero(y == code) for code in range(len(names))] if names else [np.arange(len(samples))]
    chosen = np.concatenate([rng.permutation(rows)[: max(1, round(len(rows) * fraction))] for rows in groups])
    mask = np.zeros(len(samples), dtype=bool)
    mask[chosen] = True
    return _some(samples, np.flatnonzero(~mask)), _some(samples, np.flatnonzero(mask))


def _groups(codes: Tensor | None, rows: int) -> tuple[np.ndarray, list[str] | None]:
    """(codes from 0 on, their names), or numbers that are all different and None where classes are few or no use."""
    if codes is None:
        return np.arange(rows), None
    values, y, counts = np.unique(codes.cpu().numpy(), return_inverse=True, return_counts=True)
    if counts.min() < _FEWEST:
        return y, None
    return y, [str(value) for value in values.tolist()]


def _some(samples: Samples, rows: np.ndarray) -> Samples:
    return SomeRows(samples, torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)))


def _augmented() -> str:
    return (
        "Samples differ from reading to reading, those that are only looked at too: give validation and test data of their own "
        "to have these as they are."
    )


def _check(train: Samples, validation: Samples, test: Samples) -> None:
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if len(part) < 2:
            message = f"the {name} split has {plural(len(part), 'sample')}; at least 2 are needed"
            raise DataError(message, code="split_too_small", pointer=POINTER)
