"""Splits that a table asks for where its rows were shuffled: each a warning with what to type."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from optim_core.data.columns import Column
from optim_core.data.declared import PART_NAMES
from optim_core.data.text import show
from optim_core.data.times import in_order, in_runs, moments_in
from optim_core.spec.split import proposal

# Individuals that are measured again and again.
_ONES = re.compile(
    r"(?:^|_)(patient|subject|subj|sub|participant|proband|person|respondent|user|customer|client|member|household|family|animal"
    r"|mouse|rat|dog|cow|child|infant|student|pupil|speaker|rater|driver|player|athlete|employee|worker|device|machine|sensor"
    r"|donor|twin|pair|litter|patientin|kunde|schüler|sujet|paciente|cliente)(?:_?(?:id|no|nr|num|number|code|name))?$"
)
_ID, _FOLD = re.compile(r"(?:^|_)id$"), re.compile(r"^(?:cv_?|k_?)?folds?(?:_?(?:id|no|nr))?$")
# So many are needed for five folds; of other ids more, for types and regions have ids, too.
_FEWEST_ONES, _FEWEST_IDS, _FEWEST_FOLDS = 5, 10, 3
_NAMES = ((_FOLD, _FEWEST_FOLDS), (_ONES, _FEWEST_ONES), (_ID, _FEWEST_IDS))
_ROWS_EACH = 2
_MOST_GAPS = 0.5


def proposals(columns: Sequence[Column], leaks: Collection[str] = ()) -> list[str]:
    """Warnings, one of a kind at most. ``columns``: all that are known, features or not; ``leaks``: names of those that give
    the target away, whose order would be that of the target.
    """
    when = [column for column in columns if column.name not in leaks]
    return [*_declared(columns), *_ordered(when), *_measured_again(columns)]


def names_parts(column: Column) -> bool:
    """Whether all values are words for training and test rows, validation rows too if any."""
    if column.levels is None:
        return False
    found = {PART_NAMES.get(name.strip().lower()) for name in column.levels.names}
    return None not in found and {0, 2} <= found


def _declared(columns: Sequence[Column]) -> list[str]:
    for column in columns:
        if names_parts(column):
            return [
                f"Warning split_declared: {show(column.name)} says which rows train and which test, and is no feature; rows "
                f"were split at random all the same. To split them as it says: {proposal('column', column.name)}."
            ]
    return []


def _ordered(columns: Sequence[Column]) -> list[str]:
    """Dates before numbers."""
    for column in sorted(columns, key=lambda column: column.role != "date"):
        moments = moments_in(column)
        # What most rows lack cannot order them.
        if moments is None or np.isnan(moments).mean() > _MOST_GAPS:
            continue
        if in_order(moments):
            how = f"the rows are in the order of {show(column.name)} and were shuffled"
        elif in_runs(moments):
            how = f"the rows are series one upon another, each in the order of {show(column.name)}, and were shuffled"
        else:
            continue
        return [
            f"Warning ordered_in_time: {how}. If the model is to predict what comes later, a split by time says how well: "
            f"{proposal('time', column.name)}."
        ]
    return []


def _measured_again(columns: Sequence[Column]) -> list[str]:
    found: list[tuple[bool, int, Column]] = []
    for column in columns:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])|[^\w]+", "_", column.name).lower()
        fewest = next((least for pattern, least in _NAMES if pattern.search(name)), None)
        count = 0 if fewest is None else _ones(column)
        if fewest is not None and count >= fewest:
            found.append((fewest < _FEWEST_IDS, count, column))
    if not found:
        return []
    _, count, column = max(found, key=lambda one: one[:2])
    each = round(len(_present(column)) / count)
    if _FOLD.search(column.name.lower()):
        return [
            f"Warning split_declared: {show(column.name)} seems to number folds; rows were split at random all the same. They "
            f"take turns as test rows with {proposal('group', column.name)}."
        ]
    return [
        f"Warning repeated_measures: {show(column.name)} has {count:,} values of about {each:,} rows each, which were split at "
        "random: test rows have siblings among the training rows. If the model is to predict for others than these, keep the "
        f"rows of each together: {proposal('group', column.name)}."
    ]


def _ones(column: Column) -> int:
    """How many different values there are; 0 where they are no names, or where most have no rows to share."""
    if column.role not in ("number", "category"):
        return 0
    present = _present(column)
    if column.numbers is not None and (present != np.floor(present)).any():
        return 0
    count = len(pd.unique(present))
    return count if count * _ROWS_EACH <= len(present) else 0


def _present(column: Column) -> np.ndarray:
    """The numbers of the rows that have one, or the codes of their categories."""
    if column.levels is not None:
        return column.levels.codes[~column.levels.gaps]
    assert column.numbers is not None
    return column.numbers[~np.isnan(column.numbers[:, 0]), 0]
