"""The target column: which task it means, its classes or its numbers, and the rows that can be used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.api import types

from optim_core.data.columns import as_text, is_textual, parse_dates, parse_numbers
from optim_core.data.limits import MAX_CLASSES, MAX_MAGNITUDE, MIN_ROWS
from optim_core.data.source import Source
from optim_core.data.text import plural, show, show_some
from optim_core.spec.errors import DataError
from optim_core.spec.problem import BUILTIN_TASKS, METRICS_OF_TASK, TABLE_TASKS, BuiltinDataset, StudySpec, Task

POINTER = "/dataset/target"
# An integer target with at most this many values, each seen often enough, names classes rather than quantities.
_MAX_INTEGER_CLASSES = 20
_MIN_ROWS_PER_INTEGER_CLASS = 5


@dataclass(frozen=True)
class Target:
    """``values``: (kept,) int64 class codes or float64 numbers; ``keep``: (rows,) bool."""

    task: Task
    values: np.ndarray
    keep: np.ndarray
    classes: list[str] | None
    report: list[str] = field(default_factory=list)


def understand_target(source: Source, spec: StudySpec) -> Target:
    """Raises DataError ``target_empty``, ``target_constant``, ``single_class``, ``target_unique``,
    ``too_many_classes``, ``target_not_numeric``, ``unsupported_dtype``, ``too_few_rows``.
    """
    if len(source.target) < MIN_ROWS:
        message = f"the data set has {plural(len(source.target), 'row')}; at least {MIN_ROWS} are needed"
        raise DataError(message, code="too_few_rows", pointer="/dataset")
    text, numbers = _read(source)
    usable = ~np.isnan(numbers) if text is None else text.notna().to_numpy()
    if not usable.any():
        message = f"the target {show(source.target_name)} has no values"
        raise DataError(message, code="target_empty", pointer=POINTER)
    task, why = _task(spec, text, numbers[usable])
    if task == "regression":
        if text is not None:
            row = int(np.flatnonzero(usable & np.isnan(numbers))[0])
            message = (
                f"the target {show(source.target_name)} is not a number in data row {row + 1}: {show(text.iloc[row])}"
            )
            raise DataError(message, code="target_not_numeric", pointer=POINTER)
        usable &= np.abs(numbers) <= MAX_MAGNITUDE
    report = _dropped(source, usable)
    if int(usable.sum()) < MIN_ROWS:
        message = f"only {plural(int(usable.sum()), 'row')} have a target; at least {MIN_ROWS} are needed"
        raise DataError(message, code="too_few_rows", pointer="/dataset")
    if task == "regression":
        return _regression(source, numbers[usable], usable, why, report)
    return _classification(source, _labels(text, numbers)[usable], usable, why, report)


def _read(source: Source) -> tuple[pd.Series | None, np.ndarray]:
    """(strings, numbers): strings is None when every value is a number; numbers has NaN elsewhere."""
    raw = source.target
    if types.is_datetime64_any_dtype(raw):
        raise _is_date(source)
    if types.is_bool_dtype(raw):
        text = raw.astype("str").where(raw.notna()).pipe(as_text)
        return text, np.full(len(raw), np.nan)
    if not is_textual(raw):
        return None, raw.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    text = as_text(raw)
    numbers = parse_numbers(text, source.decimal_comma)
    if (np.isnan(numbers) == text.isna().to_numpy()).all():
        return None, numbers
    if parse_dates(text.dropna()) is not None:
        raise _is_date(source)
    return text, numbers


def _is_date(source: Source) -> DataError:
    message = f"the target {show(source.target_name)} holds dates; a number or a class is needed"
    return DataError(message, code="unsupported_dtype", pointer=POINTER)


def _task(spec: StudySpec, text: pd.Series | None, numbers: np.ndarray) -> tuple[Task, str]:
    """The task and the reason as a half sentence."""
    if spec.task is not None:
        return spec.task, "as asked"
    if isinstance(spec.dataset, BuiltinDataset):
        return BUILTIN_TASKS[spec.dataset.name], "by its definition"
    if text is not None:
        return "classification", "its values are names"
    fitting: list[Task] = [task for task in TABLE_TASKS if spec.metric in METRICS_OF_TASK[task]]
    if len(fitting) == 1:
        return fitting[0], f"the metric {spec.metric} asks for it"
    distinct = np.unique(numbers)
    whole = bool((np.abs(distinct) <= MAX_MAGNITUDE).all() and (distinct == np.floor(distinct)).all())
    few = distinct.size <= _MAX_INTEGER_CLASSES and numbers.size >= _MIN_ROWS_PER_INTEGER_CLASS * distinct.size
    if distinct.size == 1:
        raise DataError("the target is the same in every row", code="target_constant", pointer=POINTER)
    if distinct.size == 2 and few:
        return "classification", "it has two values"
    if whole and few:
        return "classification", f"it has {distinct.size} whole values (set task: regression if it is a quantity)"
    return "regression", "its values are quantities"


def _dropped(source: Source, usable: np.ndarray) -> list[str]:
    lost = int((~usable).sum())
    return [f"Left out {plural(lost, 'row')} without a usable value of {show(source.target_name)}."] if lost else []


def _regression(source: Source, values: np.ndarray, keep: np.ndarray, why: str, report: list[str]) -> Target:
    if values.min() == values.max():
        message = f"the target {show(source.target_name)} is the same in every row"
        raise DataError(message, code="target_constant", pointer=POINTER)
    report.append(
        f"Target {show(source.target_name)}: regression ({why}). It is standardised for training; "
        "metrics are in its own unit."
    )
    return Target("regression", values, keep, None, report)


def _labels(text: pd.Series | None, numbers: np.ndarray) -> np.ndarray:
    """Class labels as strings, or as numbers so that they sort by size."""
    return numbers if text is None else text.astype(object).to_numpy(object)


def _classification(source: Source, labels: np.ndarray, keep: np.ndarray, why: str, report: list[str]) -> Target:
    unique, codes = np.unique(labels, return_inverse=True)
    name = show(source.target_name)
    if unique.size == 1:
        message = f"the target {name} has a single class, {show(unique[0])}"
        raise DataError(message, code="single_class", pointer=POINTER)
    if unique.size == labels.size:
        message = f"every row has its own class in {name}; is it an identifier?"
        raise DataError(message, code="target_unique", pointer=POINTER)
    if unique.size > MAX_CLASSES:
        message = f"the target {name} has {unique.size:,} classes; the limit is {MAX_CLASSES:,}"
        raise DataError(message, code="too_many_classes", pointer=POINTER)
    classes = [_class_name(value) for value in unique.tolist()]
    counts = np.bincount(codes)
    report.append(f"Target {name}: classification ({why}) with {unique.size} classes: {show_some(classes)}.")
    if counts.max() > 10 * counts.min():
        report.append(
            f"The classes are unbalanced: {counts.min():,} rows in the rarest, {counts.max():,} in the largest."
        )
    return Target("classification", codes.astype(np.int64), keep, classes, report)


def _class_name(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
