"""Columns to a float32 matrix. Everything is learned from the training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optim_core.data import levels
from optim_core.data.columns import Column
from optim_core.data.limits import MAX_CELLS, MAX_LEVELS
from optim_core.data.numeric import encode_numbers
from optim_core.data.split import SplitRows
from optim_core.data.tails import tamed
from optim_core.data.target_codes import MOST_CLASSES, means, means_of
from optim_core.data.text import plural, show_some
from optim_core.data.widths import encoded_shape, levels_of
from optim_core.spec.errors import DataError
from optim_core.spec.keys import derive_seed


@dataclass(frozen=True)
class Encoded:
    """One matrix a split, (rows, width) float32, or images (rows, c, h, w); ``names`` of the flat features.

    ``cardinalities``: see ``prepare.Arrays``.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    names: list[str]
    report: list[str]
    cardinalities: tuple[int, ...] = ()


@dataclass(frozen=True)
class Goal:
    """What the training rows are to learn, for encodings that look at it: (n,) ``values`` of all rows, the number of classes or
    None for numbers, labels of rows that are alike (see ``prepare.Understood``), and the study's ``seed``.
    """

    values: np.ndarray
    classes: int | None
    together: np.ndarray | None
    seed: int


def encode_columns(columns: list[Column], rows: SplitRows, scale: bool, codes: bool, goal: Goal) -> Encoded:
    """Impute numbers by the median (with a flag where they were missing), hold slips back, take heavy tails
    as logarithms and standardise them; encode categories, those of many levels by the target of the training rows, too.

    Args: columns: at least one; scale: False leaves numbers in their own unit; codes: a category column becomes one
    column of codes instead of one-hot columns. A category that training never saw counts as a rare one. Raises
    DataError ``too_large``.
    """
    checked_shape(columns, rows, codes, goal.classes)
    parts: list[list[np.ndarray]] = [[], [], []]
    names: list[str] = []
    report: list[str] = []
    wide: list[str] = []
    splits = (rows.train, rows.validation, rows.test)
    numeric = [column for column in columns if column.numbers is not None]
    if numeric:
        block = np.concatenate([column.numbers for column in numeric if column.numbers is not None], axis=1)
        number_names = _number_names(numeric)
        if scale:
            quantity = [column.role == "number" for column in numeric for _ in _number_names([column])]
            block = tamed(block, rows.train, quantity).block
        encoded, own = encode_numbers(block, splits, number_names, scale)
        names += own
        for part, values in zip(parts, encoded, strict=True):
            part.append(values)
    categories = [column for column in columns if column.levels is not None]
    cardinalities: tuple[int, ...] = ()
    if categories:
        filled = [column.levels.filled() for column in categories if column.levels is not None]
        many = [i for i, column in enumerate(categories) if levels_of(column, rows.train)[1]]
        wide = [categories[i].name for i in many]
        if many and means_of(goal.classes):
            y, some = goal.values[rows.train], [[filled[i].codes[chosen] for chosen in splits] for i in many]
            together = None if goal.together is None else goal.together[rows.train]
            encoded, own = means(some, wide, y, goal.classes, together, derive_seed(goal.seed, "target codes"))
            names += own
            for part, values in zip(parts, encoded, strict=True):
                part.append(values)
        own = [column.name for column in categories]
        if codes:
            encoded, cardinalities = levels.codes(filled, splits)
        else:
            encoded, own = levels.one_hot(filled, splits, own)
        names += own
        for part, columns_of_split in zip(parts, encoded, strict=True):
            part.append(columns_of_split)
    train, validation, test = (np.ascontiguousarray(np.concatenate(part, axis=1)) for part in parts)
    report += _sentences(numeric, categories, wide, train.shape[1], scale, codes, goal.classes)
    return Encoded(train, validation, test, names, report, cardinalities)


def encode_images(images: np.ndarray, rows: SplitRows) -> Encoded:
    """Standardise each channel by its mean and deviation over the training images. (n, c, h, w) → float32."""
    values = images.astype(np.float32)
    odd = ~np.isfinite(values)
    report = []
    if odd.any():
        values[odd] = 0.0
        report.append(f"{plural(int(odd.sum()), 'pixel')} that are no finite numbers became 0.")
    train = values[rows.train].astype(np.float64)
    mean, deviation = train.mean(axis=(0, 2, 3), keepdims=True), train.std(axis=(0, 2, 3), keepdims=True)
    deviation[deviation == 0] = 1.0
    if not (train != train[:1]).any():
        raise DataError("all training images are the same", code="no_usable_feature", pointer="/dataset")
    scaled = ((values - mean) / deviation).astype(np.float32)
    report.append("Pixels are standardised by channel with the training images' mean and deviation.")
    return Encoded(scaled[rows.train], scaled[rows.validation], scaled[rows.test], [], report)


def checked_shape(
    columns: list[Column], rows: SplitRows, codes: bool, classes: int | None
) -> tuple[int, tuple[int, ...]]:
    """See ``widths.encoded_shape``. Raises DataError ``too_large`` for what would not fit into memory once encoded."""
    total, (width, cardinalities) = sum(rows.counts.values()), encoded_shape(columns, rows.train, codes, classes)
    if total * width > 2 * MAX_CELLS:
        message = f"{plural(total, 'row')} with {width:,} encoded features are more than {2 * MAX_CELLS:,} cells"
        raise DataError(message, code="too_large", pointer="/dataset")
    return width, cardinalities


def _number_names(columns: list[Column]) -> list[str]:
    names: list[str] = []
    for column in columns:
        width = 0 if column.numbers is None else column.numbers.shape[1]
        names += [column.name] if width == 1 else [f"{column.name}.{i}" for i in range(width)]
    return names


def _sentences(
    numeric: list[Column],
    categories: list[Column],
    wide: list[str],
    width: int,
    scale: bool,
    codes: bool,
    classes: int | None,
) -> list[str]:
    report = []
    gaps = [c.name for c in numeric if c.numbers is not None and np.isnan(c.numbers).any()]
    if gaps:
        which = f"{plural(len(gaps), 'column')} ({show_some(gaps)})"
        report.append(f"Missing numbers in {which} were filled with the training median, and a flag says where.")
    holes = [c.name for c in categories if c.levels is not None and c.levels.gaps.any()]
    if holes:
        report.append(f"Missing categories in {show_some(holes)} are a category of their own.")
    flags = [c.name for c in numeric if c.role == "flag"]
    if flags:
        report.append(f"Yes/no columns {show_some(flags)} became 1 and 0.")
    if numeric and scale:
        report.append(f"Standardised {plural(len(numeric), 'number column')} with the training mean and deviation.")
    if categories:
        names = show_some(c.name for c in categories)
        if codes:
            what = f"Numbered the categories of {plural(len(categories), 'column')} ({names})"
            report.append(f"{what}: the model has an embedding for each, and one for rare and unseen ones.")
        else:
            report.append(f"One-hot encoded {plural(len(categories), 'category column')} ({names}).")
    if wide:
        means_too = means_of(classes)
        and_means = "; the mean target of each is a number more, learned from other training rows than its own"
        and_means = and_means if means_too else f"; the target has too many classes (over {MOST_CLASSES}) to say more"
        report.append(
            f"Of {show_some(wide)} the {MAX_LEVELS} most common categories have a place of their own and the others share "
            f"one{and_means}."
        )
    report.append(f"The model sees {plural(width, 'feature')}.")
    return report
