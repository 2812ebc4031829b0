"""The rows of a study as they were read: of one file or of several, and what they are to be told apart by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from optim_core.data.source import Source, load
from optim_core.data.text import plural, show, show_some
from optim_core.data.totals import without_totals
from optim_core.data.weights import weighted
from optim_core.spec.artifacts import path_of
from optim_core.spec.errors import DataError
from optim_core.spec.names import did_you_mean
from optim_core.spec.problem import Dataset, FileDataset, StudySpec


@dataclass(frozen=True)
class Rows:
    """``by``: (n,) the column that ``split`` names, None for none. ``parts``: (n,) 0 for training, 1 for validation, 2 for
    test, where the rows come from files of their own.
    """

    source: Source
    by: pd.Series | None = None
    parts: np.ndarray | None = None


def read_rows(spec: StudySpec, roots: Sequence[str] | None) -> Rows:
    """Read all that ``spec`` names. Raises DataError, with a pointer into ``/split`` for what is wrong with that."""
    if spec.split.by == "files":
        return _from_files(spec, roots)
    if spec.split.column is not None:
        return _with_column(spec, spec.split.column, roots)
    return Rows(_read(spec.dataset, spec.seed, roots))


def _read(dataset: Dataset, seed: int, roots: Sequence[str] | None) -> Source:
    """One data set, without its rows of weight 0 and without those that sum up others."""
    source = load(dataset, seed, roots)
    return weighted(without_totals(source) if isinstance(dataset, FileDataset) else source)


def _with_column(spec: StudySpec, column: str, roots: Sequence[str] | None) -> Rows:
    """The named column is taken out of the features unless the person lists it there."""
    dataset = spec.dataset
    assert isinstance(dataset, FileDataset)
    if column == dataset.column:
        message = f"{show(column)} is the target and cannot split the rows"
        raise DataError(message, code="invalid_spec", pointer="/split/column")
    listed = dataset.features
    wanted = listed is not None and column in listed
    if listed is not None and not wanted:
        dataset = dataset.model_copy(update={"features": [*listed, column]})
    try:
        source = _read(dataset, spec.seed, roots)
    except DataError as error:
        if listed is None or error.pointer != f"/dataset/features/{len(listed)}":
            raise
        raise DataError(str(error), code="split_missing", pointer="/split/column") from None
    features = source.features
    if not isinstance(features, pd.DataFrame) or column not in features:
        known = [] if isinstance(features, np.ndarray) else [str(name) for name in features.columns]
        hint = did_you_mean(column, known) or f"; the columns are {show_some(known, 8)}"
        raise DataError(f"there is no column {show(column)}{hint}", code="split_missing", pointer="/split/column")
    by = pd.Series(features[column])
    if wanted and spec.split.by != "column":
        return Rows(source, by)
    report = [*source.report, f"{show(column)} splits the rows and is no feature."]
    return Rows(replace(source, features=features.drop(columns=[column]), report=report), by)


def _from_files(spec: StudySpec, roots: Sequence[str] | None) -> Rows:
    """The rows of the data set, then those of the other files, whose columns have the same names."""
    dataset, plan = spec.dataset, spec.split
    assert isinstance(dataset, FileDataset)
    sources, parts = [_read(dataset, spec.seed, roots)], [0]
    for part, name, path in ((1, "validation", plan.validation), (2, "test", plan.test)):
        if path is None:
            continue
        pointer = f"/split/{name}"
        try:
            source = _read(dataset.model_copy(update={"path": path_of(path), "format": None}), spec.seed, roots)
        except DataError as error:
            raise DataError(f"{name} file: {error}", code=error.code, pointer=pointer) from None
        _check_alike(sources[0], source, name, pointer)
        sources.append(source)
        parts.append(part)
    first = sources[0]
    if isinstance(first.features, pd.DataFrame):
        names = list(first.features.columns)
        features = pd.concat([pd.DataFrame(each.features)[names] for each in sources], ignore_index=True)
    else:
        features = np.concatenate([np.asarray(each.features) for each in sources])
    target = pd.concat([each.target for each in sources], ignore_index=True)
    weights = None
    if first.weights is not None:
        weights = pd.concat([each.weights for each in sources if each.weights is not None], ignore_index=True)
    report = list(dict.fromkeys(sentence for each in sources for sentence in each.report))
    lengths = [len(each.target) for each in sources]
    return Rows(
        replace(
            first,
            features=features,
            target=target,
            weights=weights,
            report=report,
            beside=None,
            places=np.concatenate([each.numbered() for each in sources]),
        ),
        parts=np.repeat(parts, lengths),
    )


def _check_alike(first: Source, other: Source, name: str, pointer: str) -> None:
    if isinstance(first.features, pd.DataFrame) and isinstance(other.features, pd.DataFrame):
        missing = [column for column in first.features if column not in other.features]
        if missing:
            message = (
                f"{name} file: it lacks {plural(len(missing), 'column')} of the training rows: {show_some(missing)}"
            )
            raise DataError(message, code="feature_missing", pointer=pointer)
        return
    shapes = [each.features.shape[1:] for each in (first, other)]
    if isinstance(first.features, pd.DataFrame) != isinstance(other.features, pd.DataFrame) or shapes[0] != shapes[1]:
        message = f"{name} file: its rows have another shape than the training rows"
        raise DataError(message, code="malformed_array", pointer=pointer)
