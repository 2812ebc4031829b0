"""The two questions to this package: what is in a data set (``inspect``), and give me its arrays (``prepare``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from optim_core.data import columns as reading
from optim_core.data.class_weights import class_weights, weights_said
from optim_core.data.columns import Column, LeftOut
from optim_core.data.copies import repeated
from optim_core.data.cut import cut_rows, without_a_moment
from optim_core.data.encode import Goal, checked_shape, encode_columns, encode_images
from optim_core.data.identifiers import identifies
from optim_core.data.identities import sums
from optim_core.data.leaks import leaking
from optim_core.data.measurable import check_measurable, imbalance
from optim_core.data.notation import as_text, is_textual
from optim_core.data.proposals import names_parts
from optim_core.data.rows import read_rows
from optim_core.data.source import Source
from optim_core.data.split import SplitRows
from optim_core.data.tails import Tail, tails_of
from optim_core.data.target import Target, understand_target
from optim_core.data.text import plural, show
from optim_core.data.widths import gaps_of
from optim_core.spec.errors import DataError, SpecError
from optim_core.spec.problem import MAXIMISED, CatalogueModel, Dataset, StudySpec, check_metric

SHOWN_ROWS = 3
_EXPLAINED = 10
_COLUMNS_AT_ONCE = 2


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
    (original = y * ``y_scale[1]`` + ``y_scale[0]``). ``hash``: SHA-256 of all six arrays, and of the weights.
    ``weights``: of the rows of each split, float32 above 0, where rows have any.

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
    weights: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Understood:
    """A data set that was read once. What depends on the training rows is made for each split by ``arrays``.

    ``splits``: see ``split.split_rows``. ``together``: (n,) labels of rows that are not independent of each other, None where
    all are. ``batch_size``: as asked, or what the training rows allow. ``columns``: the usable ones; none for ``images``
    (n, c, h, w). ``left_out``: the others; ``names``: of all of them, in the order of the file. ``scale``: see ``Source``.
    ``codes``: category columns become codes rather than one-hot columns. ``head``: the first rows as they were read.
    ``places``: (n,) the numbers of the rows in the data set, from 1 on. ``tails``: by name, what is done to far values.
    """

    target: Target
    metric: str
    splits: list[SplitRows]
    together: np.ndarray | None
    batch_size: int
    columns: list[Column]
    images: np.ndarray | None
    scale: bool
    codes: bool
    seed: int
    report: list[str]
    target_name: str
    names: list[str]
    left_out: list[LeftOut]
    head: pd.DataFrame
    places: np.ndarray
    tails: dict[str, Tail] = field(default_factory=dict)
    weights: np.ndarray | None = None

    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """``feature_shape`` and ``cardinalities`` of the arrays that the search sees, without making them. Raises DataError
        ``too_large``.
        """
        if self.images is not None:
            return tuple(self.images.shape[1:]), ()
        width, cardinalities = checked_shape(self.columns, self.splits[0], self.codes, self.classes)
        return (width,), cardinalities

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
            encoded = encode_columns(self.columns, rows, self.scale, self.codes, self._goal)
        y, scale = _targets(self.target, rows)
        splits = (encoded.train, y[rows.train], encoded.validation, y[rows.validation], encoded.test, y[rows.test])
        parts = (rows.train, rows.validation, rows.test)
        weights = None if self.weights is None else tuple(self.weights[part] for part in parts)
        return Arrays(
            *splits,
            task=self.target.task,
            metric=self.metric,
            classes=self.target.classes,
            feature_shape=tuple(encoded.train.shape[1:]),
            feature_names=encoded.names,
            y_scale=scale,
            report=[*self.report, *encoded.report],
            hash=hash_arrays((*splits, *(weights or ()))),
            cardinalities=encoded.cardinalities,
            weights=weights,  # type: ignore[arg-type]
        )

    @property
    def classes(self) -> int | None:
        """How many the target has; None for numbers."""
        return None if self.target.classes is None else len(self.target.classes)

    @property
    def _goal(self) -> Goal:
        return Goal(self.target.values, self.classes, self.together, self.seed)

    def together_in(self, fold: int | None = None) -> dict[str, np.ndarray] | None:
        """``together`` of the validation and the test rows of a split; ``fold``: as of ``arrays``."""
        rows = self.splits[fold or 0]
        return (
            None
            if self.together is None
            else {
                "validation": self.together[rows.validation],
                "test": self.together[rows.test],
            }
        )

    def places_in(self, fold: int | None = None) -> dict[str, np.ndarray]:
        """``places`` of the validation and the test rows of a split; ``fold``: as of ``arrays``."""
        rows = self.splits[fold or 0]
        return {"validation": self.places[rows.validation], "test": self.places[rows.test]}


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
    rows = read_rows(spec, roots)
    source = rows.source
    target = without_a_moment(spec, rows, understand_target(source, spec))
    try:
        metric = check_metric(target.task, spec.metric)
    except SpecError as error:
        raise DataError(str(error), code=error.code, pointer=error.pointer) from None
    columns, left_out, report = _columns(source, target)
    images = source.features[target.keep] if isinstance(source.features, np.ndarray) else None
    copies = repeated(columns, images, target.values)
    leaks = leaking(columns, target.values, target.classes, copies[0])
    if target.classes is None:
        leaks |= sums(columns, target.values, leaks)
    cut = cut_rows(spec, rows, target, columns, copies, _beside(spec, source, target, left_out), leaks)
    for split in cut.splits:
        # What a fold would refuse is refused now, not when the confirmation comes to it.
        _targets(target, split)
    tails = tails_of(columns, cut.splits[0].train) if source.scale else []
    weights = class_weights(spec.training.class_weights, target.classes, target.values[cut.splits[0].train])
    check_measurable(metric, target.values, target.classes, cut.splits)
    return Understood(
        target,
        metric,
        cut.splits,
        cut.together,
        cut.batch_size,
        columns,
        images,
        scale=source.scale,
        codes=isinstance(spec.model, CatalogueModel) and spec.model.name == "tabular",
        seed=spec.seed,
        report=[
            *source.report,
            *target.report,
            *imbalance(metric, target.values, target.classes),
            *report,
            *leaks.values(),
            *(sentence for one in tails for sentence in one.said),
            *cut.report,
            *weights_said(weights, target.classes),
        ],
        target_name=source.target_name,
        names=[] if images is not None else [str(name) for name in source.features],
        left_out=left_out,
        head=pd.DataFrame() if isinstance(source.features, np.ndarray) else _head(source.features, target.keep),
        places=source.numbered()[target.keep].astype(np.uint32),
        tails={one.name: one for one in tails},
        weights=None if source.weights is None else source.weights.to_numpy(np.float32)[target.keep],
    )


def _head(frame: pd.DataFrame, keep: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(frame.iloc[np.flatnonzero(keep)[:SHOWN_ROWS]]).reset_index(drop=True)


def _columns(source: Source, target: Target) -> tuple[list[Column], list[LeftOut], list[str]]:
    """The usable columns and the others, restricted to the kept rows, and what to say of them. Empty for images. Raises
    DataError ``no_usable_feature``.
    """
    if isinstance(source.features, np.ndarray):
        return [], [], []
    kept = source.features
    if not target.keep.all():
        kept = pd.DataFrame(kept.loc[target.keep]).reset_index(drop=True)
    # numpy and pyarrow let go of the interpreter where a column is long.
    with ThreadPoolExecutor(_COLUMNS_AT_ONCE) as pool:
        found = list(pool.map(lambda name: _understood(str(name), pd.Series(kept[name]), source, target), kept))
    usable = [column for column in found if isinstance(column, Column)]
    unused = [column for column in found if isinstance(column, LeftOut)]
    if not usable:
        why = "".join(f"; {show(column.name)}: {column.reason}" for column in unused[:_EXPLAINED])
        more = f"; and {len(unused) - _EXPLAINED} more" if len(unused) > _EXPLAINED else ""
        raise DataError(f"no column can be used as a feature{why}{more}", code="no_usable_feature", pointer="/dataset")
    report = [said for column in usable for said in (column.note, column.warning) if said]
    report += [column.warning for column in unused if column.warning]
    if len(unused) <= _EXPLAINED:
        report += [f"Left out {show(column.name)}: {column.reason}." for column in unused]
    else:
        report.append(f"Left out {plural(len(unused), 'column')}: constant, empty, identifiers or free text.")
    return usable, unused, report


def _beside(spec: StudySpec, source: Source, target: Target, left_out: Sequence[LeftOut]) -> list[Column]:
    """What a person did not list and what is no feature, understood where it may say how to split."""
    if spec.split.by != "random":
        return []
    found = [one.column for one in left_out if one.column is not None]
    if source.beside is not None:
        frame = pd.DataFrame(source.beside.loc[target.keep]).reset_index(drop=True)
        each = (
            reading.understand(str(name), pd.Series(frame[name]), chosen=False, notation=source.notation)
            for name in frame
        )
        found += [one for one in each if isinstance(one, Column)]
    return found


def _understood(name: str, raw: pd.Series, source: Source, target: Target) -> Column | LeftOut:
    found = reading.understand(name, raw, chosen=source.chosen, notation=source.notation)
    if isinstance(found, LeftOut):
        gaps = as_text(raw, source.notation.missing).gaps if is_textual(raw) else raw.isna()
        return replace(found, missing=int(gaps.sum()))
    if source.chosen:
        return found
    why = identifies(found, raw, target.values, target.classes)
    if names_parts(found):
        why = "it says which rows train and which test"
    if why is None:
        return found
    # What is said of numbers is of no use where they name rows.
    warning = found.warning if found.levels is not None else ""
    return LeftOut(name, f"{why} (name it under features to keep it)", gaps_of(found), found, warning)


def _targets(target: Target, rows: SplitRows) -> tuple[np.ndarray, tuple[float, float]]:
    if target.task == "classification":
        return target.values, (0.0, 1.0)
    train = target.values[rows.train]
    mean, deviation = float(train.mean()), float(train.std())
    if deviation == 0.0:
        message = "the target is the same in every training row"
        raise DataError(message, code="target_constant", pointer="/dataset/target")
    return ((target.values - mean) / deviation).astype(np.float32), (mean, deviation)
