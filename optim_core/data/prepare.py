"""The two questions to this package: what is in a data set (``inspect``), and give me its arrays (``prepare``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optim_core.data import columns as reading
from optim_core.data.columns import Column, LeftOut
from optim_core.data.encode import encode_columns, encode_images, leaking
from optim_core.data.source import Source, load
from optim_core.data.split import SplitRows, split_rows
from optim_core.data.target import Target, understand_target
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.problem import MAXIMISED, CatalogueModel, Dataset, StudySpec, check_metric


@dataclass(frozen=True)
class TableInfo:
    """What was found, without training anything. ``rows``: usable rows a split. ``columns``: name → role."""

    task: str
    metric: str
    direction: str
    rows: dict[str, int]
    columns: dict[str, str]
    classes: list[str] | None
    image_shape: tuple[int, ...] | None
    report: list[str]


@dataclass(frozen=True)
class Arrays:
    """Everything training needs, as numpy.

    ``x_*``: float32 (n, d), or (n, c, h, w) for images. ``y_*``: int64 class codes, or float32 standardised targets
    (original = y * ``y_scale[1]`` + ``y_scale[0]``). ``hash``: SHA-256 of all six arrays.

    ``cardinalities``: empty, or for the model ``tabular`` how many codes each category column has. Their columns come last
    in ``x_*`` and hold codes that count on from column to column; the first of each column means rare or unseen.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    task: str
    metric: str
    classes: list[str] | None
    feature_shape: tuple[int, ...]
    feature_names: list[str]
    y_scale: tuple[float, float]
    report: list[str]
    hash: str
    cardinalities: tuple[int, ...]


@dataclass(frozen=True)
class Understood:
    """A data set that was read once. What depends on the training rows is made for each split by ``arrays``.

    ``splits``: see ``split.split_rows``. ``columns``: the usable ones; none for ``images`` (n, c, h, w). ``scale``: see
    ``Source``. ``codes``: category columns become codes rather than one-hot columns.
    """

    target: Target
    metric: str
    splits: list[SplitRows]
    columns: list[Column]
    images: np.ndarray | None
    scale: bool
    codes: bool
    report: list[str]

    def arrays(self, fold: int | None = None) -> Arrays:
        """The arrays of the split whose test rows are ``fold``, encoded by what its own training rows say.

        None: the split that the search sees, which is fold 0. ValueError for a fold of a split that is the only one.
        """
        if fold is not None and len(self.splits) == 1:
            raise ValueError("this study has one split of its own and no folds")
        rows = self.splits[fold or 0]
        if self.images is not None:
            encoded = encode_images(self.images, rows)
        else:
            encoded = encode_columns(self.columns, rows, self.scale, self.codes)
        y, scale = _targets(self.target, rows)
        splits = (encoded.train, y[rows.train], encoded.validation, y[rows.validation], encoded.test, y[rows.test])
        return Arrays(
            *splits,
            task=self.target.task,
            metric=self.metric,
            classes=self.target.classes,
            feature_shape=tuple(encoded.train.shape[1:]),
            feature_names=encoded.names,
            y_scale=scale,
            report=[*self.report, *encoded.report],
            hash=hash_arrays(splits),
            cardinalities=encoded.cardinalities,
        )


def inspect(dataset: Dataset, spec: StudySpec, roots: Sequence[str] | None = None) -> TableInfo:
    """Read ``dataset`` and say how it would be used in ``spec``. Raises DataError with code, pointer and one line.

    ``roots``: folders in which files may lie; None means anywhere.
    """
    found = understand(spec.model_copy(update={"dataset": dataset}), roots)
    return TableInfo(
        task=found.target.task,
        metric=found.metric,
        direction="maximize" if found.metric in MAXIMISED else "minimize",
        rows=found.splits[0].counts,
        columns={column.name: column.role for column in found.columns},
        classes=found.target.classes,
        image_shape=None if found.images is None else tuple(found.images.shape[1:]),
        report=found.report,
    )


def prepare(spec: StudySpec, roots: Sequence[str] | None = None, fold: int | None = None) -> Arrays:
    """Read, split, then fit the encoding on the training rows alone. Raises DataError as ``inspect`` does.

    ``fold``: see ``Understood.arrays``, which gives those of several folds for one reading.
    """
    return understand(spec, roots).arrays(fold)


def hash_arrays(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 over type, shape and bytes of each array in order, as 64 hexadecimal characters."""
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def understand(spec: StudySpec, roots: Sequence[str] | None = None) -> Understood:
    """Read the data set of ``spec``, find out what it holds and split it. Raises DataError as ``inspect`` does."""
    source = load(spec.dataset, spec.seed, roots)
    target = understand_target(source, spec)
    try:
        metric = check_metric(target.task, spec.metric)
    except SpecError as error:
        raise DataError(str(error), code=error.code, pointer=error.pointer) from None
    columns, report = _columns(source, target)
    splits = split_rows(spec, target.values, target.classes)
    for rows in splits:
        # What a fold would refuse is refused now, not when the confirmation comes to it.
        _targets(target, rows)
    images = source.features[target.keep] if isinstance(source.features, np.ndarray) else None
    return Understood(
        target,
        metric,
        splits,
        columns,
        images,
        scale=source.scale,
        codes=isinstance(spec.model, CatalogueModel) and spec.model.name == "tabular",
        report=[*source.report, *target.report, *report, _split_sentence(target, splits)],
    )


def _split_sentence(target: Target, splits: list[SplitRows]) -> str:
    rows = splits[0]
    counts, how = rows.counts, ""
    if target.classes:
        everywhere = all(len(np.unique(target.values[each.test])) == len(target.classes) for each in splits)
        how = ", with every class in each" if everywhere else ", with every class among the training rows"
    split = (
        f"Split {plural(len(target.values), 'row')} at random into {counts['train']:,} for training, "
        f"{counts['validation']:,} for validation and {counts['test']:,} for the final test{how}"
    )
    turns = "; the confirmation lets each of five folds be the test rows in turn" if len(splits) > 1 else ""
    return f"{split}{turns}."


def _columns(source: Source, target: Target) -> tuple[list[Column], list[str]]:
    """The usable columns, restricted to the kept rows. Empty for images. Raises DataError ``no_usable_feature``."""
    if isinstance(source.features, np.ndarray):
        return [], []
    kept = pd.DataFrame(source.features.loc[target.keep]).reset_index(drop=True)
    found = [
        reading.understand(str(name), pd.Series(kept[name]), chosen=source.chosen, decimal_comma=source.decimal_comma)
        for name in kept
    ]
    usable = [column for column in found if isinstance(column, Column)]
    unused = [column for column in found if isinstance(column, LeftOut)]
    if not usable:
        why = f"; {show(unused[0].name)}: {unused[0].reason}" if unused else ""
        raise DataError(f"no column can be used as a feature{why}", code="no_usable_feature", pointer="/dataset")
    report = [column.note for column in usable if column.note]
    if len(unused) <= 10:
        report += [f"Left out {show(column.name)}: {column.reason}." for column in unused]
    else:
        report.append(f"Left out {plural(len(unused), 'column')}: constant, empty, identifiers or free text.")
    return usable, report + leaking(usable, target.values, target.classes)


def _targets(target: Target, rows: SplitRows) -> tuple[np.ndarray, tuple[float, float]]:
    if target.task == "classification":
        return target.values, (0.0, 1.0)
    train = target.values[rows.train]
    mean, deviation = float(train.mean()), float(train.std())
    if deviation == 0.0:
        message = "the target is the same in every training row"
        raise DataError(message, code="target_constant", pointer="/dataset/target")
    return ((target.values - mean) / deviation).astype(np.float32), (mean, deviation)
