"""What every data set becomes first: columns or images, a target column, and what was noticed while reading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from optim_core.data.builtin import load_builtin
from optim_core.data.notation import Missing, Notation
from optim_core.data.paths import open_file, shown_name
from optim_core.data.readers.formats import SUFFIXES, TEXTS, check_magic, file_format
from optim_core.data.readers.npz_reader import read_npz
from optim_core.data.readers.refusals import unreadable
from optim_core.data.readers.table import Table, notation_of, read_table
from optim_core.data.readers.unpack import unpacked
from optim_core.data.text import plural, show, show_some
from optim_core.spec.artifacts import elsewhere
from optim_core.spec.errors import DataError
from optim_core.spec.names import did_you_mean
from optim_core.spec.problem import (
    ArtifactDataset,
    BuiltinDataset,
    Dataset,
    ExternalDataset,
    FileDataset,
    PythonDataset,
)

# What a file must be like for its first line to be shown as names of columns.
FEWEST_ROWS, FEWEST_COLUMNS, LONGEST_NAME = 2, 2, 80
_NO_NAME = re.compile(r"[{}<>=\"]")
_HEADLESS = "the names ({}) look like a row of the table: header: none (--header none) reads it as one"


@dataclass(frozen=True)
class Source:
    """``features``: a frame of raw columns, or images (n, channels, height, width). ``target``: one value a row.

    ``chosen``: the person listed the features, so none is left out on suspicion. ``scale`` False keeps the values
    (sparse counts lose their meaning when standardised). ``weights``: how much each row counts, as it was read. ``places``:
    (n,) the rows' numbers in the data set, from 1 on; None where all are there. ``beside``: columns that were not listed.
    """

    features: pd.DataFrame | np.ndarray
    target: pd.Series
    target_name: str
    report: list[str] = field(default_factory=list)
    chosen: bool = False
    scale: bool = True
    notation: Notation = field(default_factory=Notation)
    weights: pd.Series | None = None
    places: np.ndarray | None = None
    beside: pd.DataFrame | None = None

    def only(self, kept: np.ndarray) -> Source:
        """Those rows alone; ``kept``: (n,) bool."""
        return replace(
            self,
            features=self.features[kept] if isinstance(self.features, np.ndarray) else _rows(self.features, kept),
            target=_rows(self.target, kept),
            weights=None if self.weights is None else _rows(self.weights, kept),
            places=self.numbered()[kept],
            beside=None if self.beside is None else _rows(self.beside, kept),
            report=list(self.report),
        )

    def numbered(self) -> np.ndarray:
        """(n,) see ``places``."""
        return np.arange(1, len(self.target) + 1) if self.places is None else self.places


def _rows(table: Any, kept: np.ndarray) -> Any:
    return table.loc[kept].reset_index(drop=True)


def load(dataset: Dataset, seed: int, roots: Sequence[str] | None) -> Source:
    """Read ``dataset``. ``seed`` draws the synthetic ones; ``roots`` limits where files may lie. Raises DataError."""
    if isinstance(dataset, PythonDataset | ExternalDataset):
        raise DataError("data of one's own are no table", code="no_table", pointer="/dataset")
    if dataset.is_text:
        raise DataError("a text is no table", code="no_table", pointer="/dataset")
    if isinstance(dataset, ArtifactDataset):
        raise elsewhere("/dataset")
    return _builtin(dataset, seed) if isinstance(dataset, BuiltinDataset) else _file(dataset, roots)


def _builtin(dataset: BuiltinDataset, seed: int) -> Source:
    data = load_builtin(dataset, seed)
    features: pd.DataFrame | np.ndarray = data.x
    if data.x.ndim == 2:
        features = pd.DataFrame(data.x, columns=data.names)
    return Source(features, pd.Series(data.y), "target", [data.sentence], chosen=True, scale=data.scale)


def read_file(dataset: FileDataset, roots: Sequence[str] | None) -> Table | dict[str, np.ndarray]:
    """The table of a file, its report beginning with what was read, or the arrays of an npz. Raises DataError, whatever goes
    wrong in a reader but for want of memory.
    """
    path, file = open_file(dataset.path, roots)
    with file:
        return _read(dataset, path, file)


def _read(dataset: FileDataset, path: Path, file: BinaryIO) -> Table | dict[str, np.ndarray]:
    kind, missing, name = file_format(path, dataset.format), Missing.of(dataset.na), shown_name(path)
    for option, fitting in (("sheet", ("xlsx",)), ("header", ("xlsx", "csv"))):
        if getattr(dataset, option) is not None and kind not in fitting:
            message = f"{option} is for {' and '.join(fitting)}, and this is {kind}"
            raise DataError(message, code="option_not_applicable", pointer=f"/dataset/{option}")
    content = unpacked(file, name) if kind in TEXTS else file
    check_magic(content, name, kind)
    try:
        if kind == "npz":
            return read_npz(content, name)
        table = read_table(content, name, kind, dataset, missing)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever they trip over in a damaged file
        raise unreadable(name, kind, error) from error
    rows, columns = table.frame.shape
    sentence = f"Read {plural(rows, 'row')} and {plural(columns, 'column')} from {name}{table.how}."
    return replace(table, report=[sentence, *table.report])


def _file(dataset: FileDataset, roots: Sequence[str] | None) -> Source:
    found = read_file(dataset, roots)
    if isinstance(found, Table):
        return _from_frame(found, dataset, found.report)
    return _from_arrays(found, dataset, shown_name(Path(dataset.path)))


def _from_frame(table: Table, dataset: FileDataset, report: list[str]) -> Source:
    frame, target = table.frame, dataset.column.strip()
    names = [str(name) for name in frame.columns]
    unused = next((one for one in report if one.startswith("Left out ")), "")
    if unused.startswith(f"Left out {show(target)}"):
        raise DataError(f"the target cannot be used. {unused}", code="unsupported_dtype", pointer="/dataset/target")
    if names == [target] and unused:
        raise DataError(f"no column is left beside the target. {unused}", code="no_usable_feature", pointer="/dataset")
    if target not in names:
        if not _is_table(dataset, table.frame):
            file = show(shown_name(Path(dataset.path)))
            what = "is it a table with names in its first line?"
            if table.frame.shape[1] == 1:
                what = (
                    f"{what[:-1]}, and what separates its fields? It was read as one column; sep: (--sep) says the sign"
                )
            message = f"there is no column {show(target)} in {file}; {what}"
            raise DataError(message, code="target_missing", pointer="/dataset/target")
        raise _missing(target, names, "target_missing", "/dataset/target", _elsewhere(table))
    if table.headless:
        report = [*report, f"Warning first_row: {_HEADLESS.format(show_some(names, 3))}."]
    listed = [(f"/dataset/features/{place}", one) for place, one in enumerate(dataset.features or [])]
    weighing = [] if dataset.weight is None else [("/dataset/weight", dataset.weight)]
    for pointer, name in [("/dataset/target", target), *listed, *weighing]:
        if name.strip() in table.repeated:
            message = f"several columns are named {show(name)}; which one is meant?"
            raise DataError(message, code="duplicate_column", pointer=pointer)
    weight = None if dataset.weight is None else dataset.weight.strip()
    if weight is not None and weight not in names:
        raise _missing(weight, names, "weight_missing", "/dataset/weight")
    others = [name for name in names if name not in (target, weight)]
    features = _chosen(dataset, others)
    unlisted = [name for name in others if name not in features and name not in table.repeated]
    return Source(
        pd.DataFrame({name: frame[name] for name in features}, copy=False),
        pd.Series(frame[target]),
        target,
        report,
        chosen=dataset.features is not None,
        notation=table.notation,
        weights=None if weight is None else pd.Series(frame[weight]),
        beside=pd.DataFrame({name: frame[name] for name in unlisted}, copy=False) if unlisted else None,
    )


def _is_table(dataset: FileDataset, frame: pd.DataFrame) -> bool:
    """Whether a file that was read as a table looks like one. Of others (a key, passwords, settings) an error must not
    give away the first line as names of columns.
    """
    kind = SUFFIXES.get(Path(dataset.path.lower().removesuffix(".gz")).suffix)
    if kind not in TEXTS:
        # Its format was recognised by more than its text, or is nobody's.
        return kind is not None
    return (
        frame.shape[0] >= FEWEST_ROWS
        and frame.shape[1] >= FEWEST_COLUMNS
        and not any(len(column) > LONGEST_NAME or _NO_NAME.search(column) for column in map(str, frame.columns))
    )


def _chosen(dataset: FileDataset, others: list[str]) -> list[str]:
    """The feature names to use, checked. Raises DataError ``feature_missing``, ``duplicate_column``."""
    features = [name.strip() for name in dataset.features or []]
    for position, name in enumerate(features):
        pointer = f"/dataset/features/{position}"
        if name == dataset.column.strip():
            raise DataError(f"{show(name)} is the target and cannot be a feature", code="invalid_spec", pointer=pointer)
        if name not in others:
            raise _missing(name, others, "feature_missing", pointer)
        if name in features[:position]:
            raise DataError(f"feature {show(name)} is listed twice", code="duplicate_column", pointer=pointer)
    if not others:
        message = f"there is no column beside the target {show(dataset.column)}"
        raise DataError(message, code="no_usable_feature", pointer="/dataset")
    return features or others


def _elsewhere(table: Table) -> str:
    """Where a column may be that is not in ``table``, as the end of a sentence."""
    names = [str(name) for name in table.frame.columns]
    hint = f"; {_HEADLESS.format(show_some(names, 3))}" if table.headless else ""
    sheet = next((one for one in table.report if one.startswith("Read the sheet ")), None)
    return hint if sheet is None else f"{hint}; {sheet[0].lower()}{sheet[1:].rstrip('.')}"


def _missing(name: str, known: list[str], code: str, pointer: str, elsewhere: str = "") -> DataError:
    hint = did_you_mean(name, known) or f"; the columns are {show_some(known, 8)}"
    return DataError(f"there is no column {show(name)}{hint}{elsewhere}", code=code, pointer=pointer)


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
    weights = _weights(arrays, dataset, rows)
    others = [key for key in arrays if key not in (dataset.column, dataset.weight)]
    chosen = _chosen(dataset, others)
    for key in chosen:
        if len(arrays[key]) != rows:
            message = f"array {show(key)} has {len(arrays[key]):,} rows where the target has {rows:,}"
            raise DataError(message, code="malformed_array", pointer="/dataset/features")
    sentence = f"Read {plural(len(chosen), 'feature array')} of {plural(rows, 'row')} from {name}."
    values = pd.Series(_plain(target))
    if len(chosen) == 1 and arrays[chosen[0]].ndim in (3, 4):
        images, note = _images(arrays[chosen[0]])
        return Source(images, values, dataset.column, [sentence, note], chosen=True, weights=weights)
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
    notation = notation_of(dataset, Notation())
    frame = pd.DataFrame(columns)
    return Source(frame, values, dataset.column, [sentence], chosen=explicit, notation=notation, weights=weights)


def _weights(arrays: dict[str, np.ndarray], dataset: FileDataset, rows: int) -> pd.Series | None:
    name = dataset.weight
    if name is None:
        return None
    if name not in arrays:
        raise _missing(name, list(arrays), "weight_missing", "/dataset/weight")
    if arrays[name].shape != (rows,):
        message = f"the weights {show(name)} have the shape {arrays[name].shape} where the target has {rows:,} rows"
        raise DataError(message, code="malformed_array", pointer="/dataset/weight")
    return pd.Series(_plain(arrays[name]), name=name)


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
