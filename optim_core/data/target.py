"""The target column: which task it means, its classes or its numbers, and the rows that can be used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from pandas.api import types

from optim_core.data.dates import read_dates
from optim_core.data.limits import MAX_CLASSES, MAX_MAGNITUDE, MIN_ROWS
from optim_core.data.mixed import alike_but_for_case, read_clock, why_codes, why_mixed
from optim_core.data.notation import as_text, is_textual, read_numbers
from optim_core.data.sentinels import without_codes
from optim_core.data.source import Source
from optim_core.data.tails import target_tails
from optim_core.data.text import counted_words, plural, show, show_some
from optim_core.data.texts import Texts
from optim_core.data.words import kept_by, no_values, with_classes, words_lost
from optim_core.spec.errors import DataError
from optim_core.spec.problem import BUILTIN_TASKS, METRICS_OF_TASK, TABLE_TASKS, BuiltinDataset, StudySpec, Task

POINTER = "/dataset/target"
# An integer target with at most this many values, each seen often enough, names classes rather than quantities.
_MAX_INTEGER_CLASSES = 20
_MIN_ROWS_PER_INTEGER_CLASS = 5
# Of fewer other values it may be a class; and a row is more to lose than a value of a feature.
_FEWEST_BESIDE_CODES, _LEAST_CODE = 10, 999
# One each for training, validation and test.
FEWEST_OF_A_CLASS = 3


@dataclass(frozen=True)
class Target:
    """``values``: (kept,) int64 class codes or float64 numbers; ``keep``: (rows,) bool."""

    task: Task
    values: np.ndarray
    keep: np.ndarray
    classes: list[str] | None
    report: list[str] = field(default_factory=list)

    def without(self, gone: np.ndarray, why: str) -> Target:
        """``gone``: (kept,) bool, the rows to leave out; ``why``: the end of a sentence that begins with their number."""
        if not gone.any():
            return self
        keep = self.keep.copy()
        keep[np.flatnonzero(keep)[gone]] = False
        said = f"Left out {plural(int(gone.sum()), 'row')} {why}."
        return replace(self, values=self.values[~gone], keep=keep, report=[*self.report, said])


def understand_target(source: Source, spec: StudySpec) -> Target:
    """Raises DataError ``target_empty``, ``target_constant``, ``single_class``, ``target_unique``,
    ``too_many_classes``, ``target_not_numeric``, ``unsupported_dtype``, ``too_few_rows``.
    """
    if len(source.target) < MIN_ROWS:
        message = f"the data set has {plural(len(source.target), 'row')}; at least {MIN_ROWS} are needed"
        raise DataError(message, code="too_few_rows", pointer="/dataset")
    text, numbers, words, notes = _read(source, quantity=_is_quantity(spec))
    usable = ~np.isnan(numbers) if text is None else ~text.gaps
    if not usable.any():
        message = f"the target {show(source.target_name)} {no_values(source.target, ~usable)}"
        raise DataError(message, code="target_empty", pointer=POINTER)
    task, why = _task(spec, text, numbers[usable])
    if task == "regression":
        if text is not None:
            row = int(np.flatnonzero(usable & np.isnan(numbers))[0])
            given = show(text.distinct[text.codes[row]])
            message = f"the target {show(source.target_name)} is not a number in data row {row + 1}: {given}"
            raise DataError(message, code="target_not_numeric", pointer=POINTER)
        usable &= np.abs(numbers) <= MAX_MAGNITUDE
    report = [*notes, *_dropped(source, usable, words, named=text is not None)]
    if int(usable.sum()) < MIN_ROWS:
        message = f"only {plural(int(usable.sum()), 'row')} have a target; at least {MIN_ROWS} are needed"
        raise DataError(message, code="too_few_rows", pointer="/dataset")
    if task == "regression":
        return _regression(source, numbers[usable], usable, why, report)
    return _classification(source, _labels(text, numbers)[usable], usable, why, report)


def _read(source: Source, *, quantity: bool) -> tuple[Texts | None, np.ndarray, list[str], list[str]]:
    """(texts, numbers, words, sentences): texts is None when the values are numbers; numbers has NaN elsewhere; words for a
    gap that are classes here. ``quantity``: a person said that it is no class.
    """
    raw = source.target
    if types.is_datetime64_any_dtype(raw):
        raise _is_date(source)
    if types.is_bool_dtype(raw):
        text = raw.astype("str").where(raw.notna()).pipe(as_text, source.notation.missing)
        return text, np.full(len(raw), np.nan), [], []
    if not is_textual(raw):
        return None, *_without_codes(source, raw.astype("Float64").to_numpy(np.float64, na_value=np.nan), [])
    text = as_text(raw, source.notation.missing)
    numbers = None
    if quantity or why_codes(text) is None:
        numbers = read_numbers(source.target_name, text, source.notation) or read_clock(source.target_name, text)
    if numbers is not None:
        return None, *_without_codes(source, numbers.values, numbers.notes)
    if read_dates(source.target_name, text) is not None:
        raise _is_date(source)
    text, words = with_classes(raw, text, source.notation.missing)
    mixed = why_mixed(source.target_name, text, source.notation)
    return text, np.full(len(raw), np.nan), words, [f"Warning mixed_values: {mixed}"] if mixed else []


def _is_quantity(spec: StudySpec) -> bool:
    return spec.task == "regression" or spec.metric in METRICS_OF_TASK["regression"]


def _without_codes(source: Source, numbers: np.ndarray, notes: list[str]) -> tuple[np.ndarray, list[str], list[str]]:
    found, warning = without_codes(
        source.target_name, numbers, source.notation.missing, _FEWEST_BESIDE_CODES, _LEAST_CODE
    )
    return found, [], [*notes, warning] if warning else notes


def _is_date(source: Source) -> DataError:
    message = f"the target {show(source.target_name)} holds dates; a number or a class is needed"
    return DataError(message, code="unsupported_dtype", pointer=POINTER)


def _task(spec: StudySpec, text: Texts | None, numbers: np.ndarray) -> tuple[Task, str]:
    """The task and the reason as a half sentence."""
    if spec.task is not None:
        return spec.task, "as asked"
    if isinstance(spec.dataset, BuiltinDataset):
        return BUILTIN_TASKS[spec.dataset.name], "by its definition"
    if text is not None:
        return "classification", "its values are names"
    fitting: list[Task] = [task for task in TABLE_TASKS if spec.metric in METRICS_OF_TASK[task]]
    distinct, counts = np.unique(numbers, return_counts=True)
    if len(fitting) == 1:
        if fitting[0] == "classification":
            _refuse_quantity(spec, distinct, counts)
        return fitting[0], f"the metric {spec.metric} asks for it"
    whole = bool((np.abs(distinct) <= MAX_MAGNITUDE).all() and (distinct == np.floor(distinct)).all())
    few = distinct.size <= _MAX_INTEGER_CLASSES and numbers.size >= _MIN_ROWS_PER_INTEGER_CLASS * distinct.size
    if distinct.size == 1:
        raise DataError("the target is the same in every row", code="target_constant", pointer=POINTER)
    if distinct.size == 2 and few:
        return "classification", "it has two values"
    if whole and few:
        return "classification", f"it has {distinct.size} whole values (set task: regression if it is a quantity)"
    return "regression", "its values are quantities"


def _refuse_quantity(spec: StudySpec, distinct: np.ndarray, counts: np.ndarray) -> None:
    """A metric is no word of a person that numbers are classes. Raises DataError ``metric_not_applicable``."""
    many = distinct.size > _MAX_INTEGER_CLASSES and (distinct != np.floor(distinct)).any()
    if many or _mostly_rare(counts):
        others = ", ".join(METRICS_OF_TASK["regression"])
        message = (
            f"{spec.metric} is of classes, and the target is a quantity of {distinct.size:,} different numbers: choose one of "
            f"{others}; task: classification (--task classification) makes each number a class"
        )
        raise DataError(message, code="metric_not_applicable", pointer="/metric")


def _mostly_rare(counts: np.ndarray) -> bool:
    """Whether most rows are of classes that would be left out. ``counts``: (classes,) rows."""
    return 2 * int(counts[counts < FEWEST_OF_A_CLASS].sum()) > int(counts.sum())


def _dropped(source: Source, usable: np.ndarray, words: list[str], *, named: bool) -> list[str]:
    """What became of rows without a target, and of ``words`` that mean a gap elsewhere. ``named``: the target is one of names,
    of which a word for a gap may be one.
    """
    name, lost, said = show(source.target_name), int((~usable).sum()), []
    for word in words:
        said.append(
            f"{show(word)} is as frequent in {name} as its other values and stays a class (list it under na to call it "
            "missing)."
        )
    if lost:
        gone = words_lost(source.target, ~usable)
        which = f": {counted_words(gone)}" if gone else ""
        # What a person listed was meant.
        how = f"; {kept_by(gone, words)}" if gone and named and not source.notation.missing.listed else ""
        said.append(
            f"Warning rows_left_out: Left out {plural(lost, 'row')} without a usable value of {name}{which}{how}."
        )
    return said


def _regression(source: Source, values: np.ndarray, keep: np.ndarray, why: str, report: list[str]) -> Target:
    if values.min() == values.max():
        message = f"the target {show(source.target_name)} is the same in every row"
        raise DataError(message, code="target_constant", pointer=POINTER)
    report += target_tails(values, source.target_name)
    report.append(
        f"Target {show(source.target_name)}: regression ({why}). It is standardised for training; "
        "metrics are in its own unit."
    )
    return Target("regression", values, keep, None, report)


def _labels(text: Texts | None, numbers: np.ndarray) -> np.ndarray:
    """Class labels as strings, or as numbers so that they sort by size."""
    return numbers if text is None else text.spread(text.distinct.to_numpy(object), None)


def _classification(source: Source, labels: np.ndarray, keep: np.ndarray, why: str, report: list[str]) -> Target:
    name = show(source.target_name)
    labels, keep, rare = _without_rare(labels, keep, name)
    report += rare
    codes, unique = pd.factorize(labels, sort=True)
    if unique.size == 1:
        lost = next((one.removeprefix("Warning rows_left_out: ") for one in report if "rows_left_out" in one), "")
        message = f"the target {name} has a single class, {show(unique[0])}. {lost}".rstrip(" .")
        raise DataError(message, code="single_class", pointer=POINTER)
    if unique.size > MAX_CLASSES:
        message = f"the target {name} has {unique.size:,} classes; the limit is {MAX_CLASSES:,}"
        raise DataError(message, code="too_many_classes", pointer=POINTER)
    classes = [_class_name(value) for value in unique.tolist()]
    alike = alike_but_for_case(source.target_name, classes)
    report += [f"Warning alike_classes: {alike}"] if alike else []
    counts = np.bincount(codes)
    report.append(f"Target {name}: classification ({why}) with {unique.size} classes: {show_some(classes)}.")
    if counts.max() > 10 * counts.min():
        report.append(
            f"The classes are unbalanced: {counts.min():,} rows in the rarest, {counts.max():,} in the largest."
        )
    return Target("classification", codes.astype(np.int64), keep, classes, report)


def _without_rare(labels: np.ndarray, keep: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The same without classes of one or two rows, which cannot be in training, validation and test; and what was left out."""
    # Of a million words a tenth of the time that np.unique takes, which sorts them all.
    codes, found = pd.factorize(labels, sort=True)
    counts = np.bincount(codes)
    few = counts < FEWEST_OF_A_CLASS
    if not few.any():
        return labels, keep, []
    if counts.max() == 1:
        what = _described(np.asarray(found))
        message = f"every row has its own class in {name}; " + (
            "is it an identifier?" if what.startswith("such as") else f"its values are {what}"
        )
        raise DataError(message, code="target_unique", pointer=POINTER)
    lost = few[codes]
    if (~few).sum() < 2 or int((~lost).sum()) < MIN_ROWS:
        enough = f"{int((~few).sum())} have {FEWEST_OF_A_CLASS} rows or more"
        message = f"{name} has {plural(len(found), 'class')}, of which {enough}; its values are {_described(np.asarray(found))}"
        raise DataError(message, code="too_few_rows", pointer=POINTER)
    if _mostly_rare(counts):
        message = (
            f"{int(lost.sum()):,} of {plural(len(labels), 'row')} are of classes of {name} with fewer than "
            f"{FEWEST_OF_A_CLASS} rows, which cannot be in training, validation and test: "
            + ("join rare classes" if labels.dtype == object else "is it a quantity (task: regression)?")
        )
        raise DataError(message, code="too_few_rows", pointer=POINTER)
    kept = keep.copy()
    kept[np.flatnonzero(keep)[lost]] = False
    shown = show_some(_class_name(value) for value in found[few].tolist())
    said = (
        f"Warning rows_left_out: Left out {plural(int(lost.sum()), 'row')} of the {plural(int(few.sum()), 'class')} {shown}: "
        f"training, validation and test need a row each, so a class of {name} needs {FEWEST_OF_A_CLASS}."
    )
    return labels[~lost], kept, [said]


def _described(found: np.ndarray) -> str:
    """Some of the distinct values, and whether they are numbers that are written with the other decimal mark."""
    shown = show_some((_class_name(value) for value in found[:3].tolist()), 3)
    for mark, called in ((",", "commas"), (".", "points")):
        written = [re.fullmatch(rf"\s*[+-]?\d+\{mark}\d+\s*", str(value)) is not None for value in found]
        if found.dtype == object and 2 * sum(written) > len(written):
            return f"numbers with decimal {called}, such as {shown}: decimal: '{mark}' (--decimal) reads them"
    return f"such as {shown}"


def _class_name(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
