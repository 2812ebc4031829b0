"""The two questions to this package: what is in a data set (``inspect``), and give me its arrays (``prepare``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optim_core.data.columns import Column, LeftOut, understand
from optim_core.data.encode import Encoded, encode_columns, encode_images, leaking
from optim_core.data.source import Source, load
from optim_core.data.split import Rows, split_rows
from optim_core.data.target import Target, understand_target
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
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
class _Understood:
    source: Source
    target: Target
    metric: str
    rows: Rows
    columns: list[Column]
    report: list[str]


def inspect(dataset: Dataset, spec: StudySpec, roots: Sequence[str] | None = None) -> TableInfo:
    """Read ``dataset`` and say how it would be used in ``spec``. Raises DataError with code, pointer and one line.

    ``roots``: folders in which files may lie; None means anywhere.
    """
    found = _understand(spec.model_copy(update={"dataset": dataset}), roots)
    images = found.source.features
    return TableInfo(
        task=found.target.task,
        metric=found.metric,
        direction="maximize" if found.metric in MAXIMISED else "minimize",
        rows=found.rows.counts,
        columns={column.name: column.role for column in found.columns},
        classes=found.target.classes,
        image_shape=tuple(images.shape[1:]) if isinstance(images, np.ndarray) else None,
        report=found.report,
    )


def prepare(spec: StudySpec, roots: Sequence[str] | None = None) -> Arrays:
    """Read, split, then fit the encoding on the training rows alone. Raises DataError as ``inspect`` does."""
    found = _understand(spec, roots)
    rows, target = found.rows, found.target
    encoded = _encode(found, codes=isinstance(spec.model, CatalogueModel) and spec.model.name == "tabular")
    y, scale = _targets(target, rows)
    splits = (encoded.train, y[rows.train], encoded.validation, y[rows.validation], encoded.test, y[rows.test])
    return Arrays(
        *splits,
        task=target.task,
        metric=found.metric,
        classes=target.classes,
        feature_shape=tuple(encoded.train.shape[1:]),
        feature_names=encoded.names,
        y_scale=scale,
        report=[*found.report, *encoded.report],
        hash=hash_arrays(splits),
        cardinalities=encoded.cardinalities,
    )


def hash_arrays(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 over type, shape and bytes of each array in order, as 64 hexadecimal characters."""
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _understand(spec: StudySpec, roots: Sequence[str] | None) -> _Understood:
    source = load(spec.dataset, spec.seed, roots)
    target = understand_target(source, spec)
    try:
        metric = check_metric(target.task, spec.metric)
    except ValueError as error:
        message = str(error).removeprefix("metric_not_applicable: ")
        raise DataError(message, code="metric_not_applicable", pointer="/metric") from None
    columns, report = _columns(source, target)
    rows = split_rows(spec, target.values, target.classes)
    counts = rows.counts
    how = ", with every class in each" if target.classes else ""
    split = (
        f"Split {plural(len(target.values), 'row')} at random into {counts['train']:,} for training, "
        f"{counts['validation']:,} for validation and {counts['test']:,} for the final test{how}."
    )
    return _Understood(source, target, metric, rows, columns, [*source.report, *target.report, *report, split])


def _columns(source: Source, target: Target) -> tuple[list[Column], list[str]]:
    """The usable columns, restricted to the kept rows. Empty for images. Raises DataError ``no_usable_feature``."""
    if isinstance(source.features, np.ndarray):
        return [], []
    kept = pd.DataFrame(source.features.loc[target.keep]).reset_index(drop=True)
    found = [
        understand(str(name), pd.Series(kept[name]), chosen=source.chosen, decimal_comma=source.decimal_comma)
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


def _encode(found: _Understood, codes: bool) -> Encoded:
    features = found.source.features
    if isinstance(features, np.ndarray):
        return encode_images(features[found.target.keep], found.rows)
    return encode_columns(found.columns, found.rows, found.source.scale, codes)


def _targets(target: Target, rows: Rows) -> tuple[np.ndarray, tuple[float, float]]:
    if target.task == "classification":
        return target.values, (0.0, 1.0)
    train = target.values[rows.train]
    mean, deviation = float(train.mean()), float(train.std())
    if deviation == 0.0:
        message = "the target is the same in every training row"
        raise DataError(message, code="target_constant", pointer="/dataset/target")
    return ((target.values - mean) / deviation).astype(np.float32), (mean, deviation)
