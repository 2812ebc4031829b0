"""Sample weights: a column that says how much each row counts, in training and in the metric, and is no feature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from optim_core.data.limits import MAX_MAGNITUDE
from optim_core.data.notation import as_text, is_textual, read_numbers
from optim_core.data.source import Source
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError

_POINTER = "/dataset/weight"


def weighted(source: Source) -> Source:
    """The source with its weights as numbers, without the rows of weight 0; as it is where it has none.

    Raises DataError ``invalid_weight`` for a weight that is missing, negative or no finite number.
    """
    raw = source.weights
    if raw is None:
        return source
    numbers = _numbers(source, raw)
    bad = ~(np.isfinite(numbers) & (numbers >= 0) & (numbers <= MAX_MAGNITUDE))
    name = show(str(raw.name))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        message = f"the weight {name} is {show(raw.iloc[row])} in data row {row + 1}; weights are numbers from 0 on"
        raise DataError(message, code="invalid_weight", pointer=_POINTER)
    used = numbers > 0
    report = [*source.report, f"Rows count as much as {name} says, in the training loss and in the metric."]
    if not used.all():
        report.append(f"Left out {plural(int((~used).sum()), 'row')} of weight 0.")
    return replace(replace(source, weights=pd.Series(numbers, name=raw.name)).only(used), report=report)


def _numbers(source: Source, raw: pd.Series) -> np.ndarray:
    """(n,) float64, NaN for what is no number."""
    if not is_textual(raw):
        return raw.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    text = as_text(raw, source.notation.missing)
    found = read_numbers(str(raw.name), text, source.notation)
    if found is not None:
        return found.values
    return text.spread(np.asarray(pd.to_numeric(text.distinct, errors="coerce"), dtype=np.float64), np.nan)
