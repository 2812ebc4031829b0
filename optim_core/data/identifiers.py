"""Columns that name rows rather than describe them. Told by their content; a name only adds to that.

A lost signal costs more than a column of noise, so what is not clear stays.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from pandas.api import types

from optim_core.data.columns import Column
from optim_core.data.times import are_times

# In fewer rows anything may be different in each.
FEWEST_ROWS = 20
_LOOKED_AT = 1_000
# Numbers that rise or fall with the rows count them if they leave out no more than nine of ten.
_DENSE = 10
_NAME = re.compile(
    r"(^|[_\s.-])(id|uuid|guid|index|idx|key|no|nr|num|number|code|rownames?)$|[a-z](I[dD]|No|Nr|Num|Number|Key|Code|Index)$"
    r"|^(unnamed: \d+|column 1)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"[a-z](I[dD]|No|Nr|Num|Number|Key|Code|Index)$")
# That a column says something of the target is shown at one in a thousand.
_ALPHA = 1e-3


def identifies(column: Column, raw: pd.Series, y: np.ndarray, classes: list[str] | None) -> str | None:
    """Why ``column`` is an identifier, as the end of a sentence; None where it is none.

    Whole numbers, all different and no times, that are evenly spaced or count the rows in their order; with a name as
    identifiers have it and without any relation to the target ``y``. Texts that are all different. Never a column of decimals.
    """
    if len(y) < FEWEST_ROWS:
        return None
    if column.levels is not None:
        texts, present = len(column.levels.names), int((~column.levels.gaps).sum())
        return "its texts are all different" if texts == present >= FEWEST_ROWS else None
    if column.role != "number" or column.numbers is None or _decimal(raw):
        return None
    values = column.numbers[:, 0]
    if len(np.unique(values[:_LOOKED_AT])) < len(values[:_LOOKED_AT]):
        return None
    if np.isnan(values).any() or (values != np.floor(values)).any():
        return None
    ordered = np.sort(values)
    steps, turns = np.diff(ordered), np.diff(values)
    if steps.min() == 0 or are_times(column.name, values):
        return None
    if steps.min() == steps.max():
        return "it only numbers the rows"
    if ((turns > 0).all() or (turns < 0).all()) and ordered[-1] - ordered[0] <= _DENSE * len(values):
        return "it only counts the rows in their order"
    if (_NAME.search(column.name) or _CAMEL.search(column.name)) and not _related(values, y, classes):
        return "it is different in each row, says nothing of the target and is called like an identifier"
    return None


def _decimal(raw: pd.Series) -> bool:
    if types.is_numeric_dtype(raw):
        return types.is_float_dtype(raw)
    return bool(raw.head(100).astype("str").str.contains(".", regex=False).any())


def _related(values: np.ndarray, y: np.ndarray, classes: list[str] | None) -> bool:
    """By ranks: Spearman's correlation with numbers, Kruskal and Wallis's test of classes. Values are all different."""
    # A tenth of a second of imports, and few tables have such a column. Not scipy.stats, whose import takes a second.
    from scipy.special import chdtri

    n = len(values)
    ranks = np.empty(n)
    ranks[np.argsort(values)] = np.arange(n)
    ranks -= ranks.mean()
    if classes is None:
        other = pd.Series(y).rank().to_numpy(np.float64)
        statistic, degrees = (n - 1) * float(np.corrcoef(ranks, other)[0, 1]) ** 2, 1
    else:
        counts = np.bincount(y, minlength=len(classes))
        sums = np.bincount(y, weights=ranks, minlength=len(classes))
        statistic = 12 / (n * (n + 1)) * float((sums**2 / np.maximum(counts, 1)).sum())
        degrees = len(classes) - 1
    return statistic > float(chdtri(degrees, _ALPHA))
