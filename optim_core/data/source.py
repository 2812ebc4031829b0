"""What every data set becomes first: columns or images, a target column, and what was noticed while reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from optim_core.data.builtin import load_builtin
from optim_core.data.csv_reader import delimiter_name, read_csv
from optim_core.data.formats import check_magic, file_format
from optim_core.data.npz_reader import read_npz
from optim_core.data.parquet_reader import read_parquet
from optim_core.data.paths import open_regular, resolve_path
from optim_core.data.text import plural, show, show_some
from optim_core.spec.errors import DataError
from optim_core.spec.names import did_you_mean
from optim_core.spec.problem import BuiltinDataset, Dataset, FileDataset, PythonDataset


@dataclass(frozen=True)
class Source:
    """``features``: a frame of raw columns, or images (n, channels, height, width). ``target``: one value a row.

    ``chosen``: the person listed the features, so none is left out on suspicion. ``scale`` False keeps the values
    (sparse counts lose their meaning when standardised).
    """

    features: pd.DataFrame | np.ndarray
    target: pd.Series
    target_name: str
    report: list[str] = field(default_factory=list)
    chosen: bool = False
    scale: bool = True
    decimal_comma: bool = False


def load(dataset: Dataset, seed: int, roots: Sequence[str] | None) -> Source:
    """Read ``dataset``. ``seed`` draws the synthetic ones; ``roots`` limits where files may lie. Raises DataError."""
    if isinstance(dataset, PythonDataset):
        raise DataError("data of one's own are no table", code="no_table", pointer="/dataset")
    if dataset.is_text:
        raise DataError("a text is no table", code="no_table", pointer="/dataset")
    return _builtin(dataset, seed) if isinstance(dataset, BuiltinDataset) else _file(dataset, roots)


def _builtin(dataset: BuiltinDataset, seed: int) -> Source:
    data = load_builtin(dataset, seed)
    features: pd.DataFrame | np.ndarray = data.x
    if data.x.ndim == 2:
        features = pd.DataFrame(data.x, columns=data.names)
    return Source(features, pd.Series(data.y), "target", [data.sentence], chosen=True, scale=data.scale)


def _file(dataset: FileDataset, roots: Sequence[str] | None) -> Source:
    path = resolve_path(dataset.path, roots)
    kind = file_format(path, dataset.format)
    with open_regular(path) as file:
        check_magic(file, path.name, kind)
        if kind == "npz":
            return _from_arrays(read_npz(file, path.name), dataset, path.name)
        if kind == "parquet":
            frame, delimiter = read_parquet(file, path.name), None
        else:
            frame, delimiter = read_csv(file, path.name)
    how = f", separated by {delimiter_name(delimiter)}" if delimiter not in (None, ",") else ""
    sentence = f"Read {plural(len(frame), 'row')} and {plural(frame.shape[1], 'column')} from {path.name}{how}."
    return _from_frame(frame, dataset, sentence, decimal_comma=delimiter == ";")


def _from_frame(frame: pd.DataFrame, dataset: FileDataset, sentence: str, decimal_comma: bool) -> Source:
    names = [str(name) for name in frame.columns]
    if dataset.column not in names:
        raise _missing(dataset.column, names, "target_missing", "/dataset/target")
    features = _chosen(dataset, [name for name in names if name != dataset.column])
    return Source(
        pd.DataFrame(frame[features]),
        pd.Series(frame[dataset.column]),
        dataset.column,
        [sentence],
        chosen=dataset.features is not None,
        decimal_comma=decimal_comma,
    )


def _chosen(dataset: FileDataset, others: list[str]) -> list[str]:
    """The feature names to use, checked. Raises DataError ``feature_missing``, ``duplicate_column``."""
    for position, name in enumerate(dataset.features or []):
        pointer = f"/dataset/features/{position}"
        if name == dataset.column:
            raise DataError(f"{show(name)} is the target and cannot be a feature", code="invalid_spec", pointer=pointer)
        if name not in others:
            raise _missing(name, others, "feature_missing", pointer)
        if name in (dataset.features or [])[:position]:
            raise DataError(f"feature {show(name)} is listed twice", code="duplicate_column", pointer=pointer)
    if not others:
        message = f"there is no column beside the target {show(dataset.column)}"
        raise DataError(message, code="no_usable_feature", pointer="/dataset")
    return list(dataset.features or others)


def _missing(name: str, known: list[str], code: str, pointer: str) -> DataError:
    hint = did_you_mean(name, known) or f"; the columns are {show_some(known, 8)}"
    return DataError(f"there is no column {show(name)}{hint}", code=code, pointer=pointer)


def _from_arrays(arrays: dict[str, np.ndarray], dataset: FileDataset, name: str) -> Source:
    if dataset.column not in arrays:
        raise _missing(dataset.column, list(arrays), "target_missing", "/dataset/target")
    target = arrays[dataset.column]
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 1:
        message = f"the target array {show(dataset.column)} has the shape {target.shape}; one value a row is needed"
        raise DataError(message, code="malformed_array", pointer="/dataset/target")
    rows = len(target)
    others = [key for key, array in arrays.items() if key != dataset.column]
    chosen = _chosen(dataset, others)
    for key in chosen:
        if len(arrays[key]) != rows:
            message = f"array {show(key)} has {len(arrays[key]):,} rows where the target has {rows:,}"
            raise DataError(message, code="malformed_array", pointer="/dataset/features")
    sentence = f"Read {plural(len(chosen), 'feature array')} of {plural(rows, 'row')} from {name}."
    values = pd.Series(_plain(target))
    if len(chosen) == 1 and arrays[chosen[0]].ndim in (3, 4):
        images, note = _images(arrays[chosen[0]])
        return Source(images, values, dataset.column, [sentence, note], chosen=True)
    columns: dict[str, np.ndarray] = {}
    for key in chosen:
        array = arrays[key]
        if array.ndim > 2:
            message = f"array {show(key)} has {array.ndim} dimensions; images must be the only feature array"
            raise DataError(message, code="malformed_array", pointer="/dataset/features")
        if array.ndim == 1:
            columns[key] = _plain(array)
        else:
            columns.update({f"{key}[{i}]": _plain(array[:, i]) for i in range(array.shape[1])})
    explicit = dataset.features is not None or any(arrays[key].ndim == 2 for key in chosen)
    return Source(pd.DataFrame(columns), values, dataset.column, [sentence], chosen=explicit)


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(object) if array.dtype.kind == "U" else array


def _images(array: np.ndarray) -> tuple[np.ndarray, str]:
    """(n, c, h, w) from grey images (n, h, w) or from channels in front or at the end."""
    if array.dtype.kind == "U":
        raise DataError("images must hold numbers", code="unsupported_dtype", pointer="/dataset/features")
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[1] not in (1, 2, 3, 4) and array.shape[-1] in (1, 2, 3, 4):
        array = np.moveaxis(array, -1, 1)
    channels, height, width = array.shape[1:]
    return array, f"The rows are images of {height} x {width} pixels with {plural(channels, 'channel')}."
