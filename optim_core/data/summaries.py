"""The last rows of a table that describe all others, told by what they hold: sums and means, whatever they are called.

An ordinary row may come near a mean or a sum by chance. So how likely that is, is worked out from the digits that agree: of a
column with the standard deviation s a value comes within t of one by chance with a probability of about 2 t / s, and the two
columns that say most are taken as independent of each other, further ones as no evidence.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optim_core.data.notation import Notation, as_text, is_textual, read_numbers
from optim_core.data.source import Source

_MEANS = (
    "average|averages|avg|mean|means|durchschnitt|mittelwert|mittel|mw|schnitt|moyenne|media|promedio|média|gemiddelde"
    "|среднее|平均"
)
_SPREADS = (
    "std|stdev|stddev|std dev|standard deviation|sd|stabw|stdabw|stdabw n|standardabweichung|écart type"
    "|desviación estándar"
)
_WORDS = {
    "mean": re.compile(rf"^(?:{_MEANS})\b"),
    "spread": re.compile(rf"^(?:{_SPREADS})$"),
    "median": re.compile(r"^(?:median|zentralwert|médiane|mediana)$"),
    "least": re.compile(r"^(?:min|minimum|minimo|mínimo|kleinster wert)$"),
    "most": re.compile(r"^(?:max|maximum|massimo|máximo|größter wert)$"),
    "count": re.compile(r"^(?:count|n|anzahl|nombre|conteggio|recuento)$"),
}
_LAST, _FEWEST, _SAMPLE = 8, 5, 2000
# How likely chance may be where the row's label is none, or is like no other; and where nothing but its numbers tells.
_LABELLED, _ALONE = 1e-3, 1e-6
# A word says what a row is; its numbers may be rounded, or be of more rows than there are. In standard deviations.
_NEAR = 0.05
# A sum stands out from what it sums up; before all are summed up, this is looked at in some rows.
_BEYOND = 3.0
_MOST_DECIMALS = 6
_MISFITS = 0.1


@dataclass(frozen=True)
class Summary:
    """``word``: what the row says; ``sums``: whether it is a sum, which would decide every error."""

    word: str
    sums: bool


def summaries(source: Source, known: Set[int]) -> dict[int, Summary]:
    """Row → what it is, of the last rows; ``known``: rows that are told already and belong to no other's sum."""
    assert isinstance(source.features, pd.DataFrame)
    rows = len(source.target)
    raw = [source.target, *(pd.Series(source.features[name]) for name in source.features)]
    found: dict[int, Summary] = {}
    numbers: list[np.ndarray] | None = None
    for row in range(max(_FEWEST, rows - _LAST), rows):
        if row in known:
            continue
        word, kind, labelled = _label(raw, row)
        if not labelled and not _stands_out(raw, row):
            continue
        numbers = columns_of_numbers(raw, source.notation) if numbers is None else numbers
        before = np.ones(row, dtype=bool)
        before[[other for other in (*known, *found) if other < row]] = False
        sums = _describes(numbers, row, before, kind, _LABELLED if labelled else _ALONE, alone=not labelled)
        if sums is not None:
            found[row] = Summary(word if labelled else "", sums)
    last = rows
    while last - 1 in found or last - 1 in known:
        last -= 1
    return {row: what for row, what in found.items() if row >= last}


def columns_of_numbers(raw: list[pd.Series], notation: Notation) -> list[np.ndarray]:
    """Those of ``raw`` that are numbers, as float64."""
    return [values for column in raw if (values := as_numbers(column, notation)) is not None]


def as_numbers(raw: pd.Series, notation: Notation) -> np.ndarray | None:
    """``raw`` as float64 with NaN for gaps; None where it is no column of numbers."""
    if not is_textual(raw):
        return raw.astype("Float64").to_numpy(np.float64, na_value=np.nan) if raw.dtype.kind in "iufIUF" else None
    found = read_numbers(str(raw.name), as_text(raw, notation.missing), notation)
    return None if found is None else found.values


def decimals_of(values: np.ndarray) -> int | None:
    """How many decimals ``values`` are written with; None where they are not rounded."""
    present = values[np.isfinite(values)]
    for decimals in range(_MOST_DECIMALS + 1):
        if np.allclose(present, np.round(present, decimals), rtol=1e-12, atol=1e-12):
            return decimals
    return None


def rounding(values: np.ndarray) -> float:
    """How far the sum of rounded ``values`` may lie from the rounded sum of what they were, beyond the errors of floats."""
    decimals = decimals_of(values[:1000])
    if not decimals:
        return 0.0
    count = len(values)
    return 10.0**-decimals * min(count / 2, 0.5 + 3 * np.sqrt(count / 12))


def _label(raw: list[pd.Series], row: int) -> tuple[str, str | None, bool]:
    """What the row says, the kind of summary where that is a word for one, and whether it is told from the others by it."""
    unlike = ""
    empty = False
    for column in raw[1:]:
        cell, above = column.iloc[row], column.iloc[max(0, row - _SAMPLE) : max(0, row - _LAST)]
        text = "" if pd.isna(cell) else str(cell).strip()
        if not text:
            empty = empty or not (above.isna().any() or (is_textual(column) and (above.str.strip() == "").any()))
            continue
        if not is_textual(column) or text[:1].isdigit() or len(above) == 0 or (above == cell).any():
            continue
        plain = re.sub(r"[\s_.-]+", " ", text).strip(" :*=Ø").lower()
        kind = next((kind for kind, words in _WORDS.items() if words.search(plain)), None)
        if text.startswith("Ø"):
            kind = "mean"
        if kind is not None and int((column == cell).sum()) == 1:
            return text, kind, True
        digits = above.str.strip().str[:1].str.isdigit().mean()
        alike = above.nunique() <= len(above) / 2
        if not unlike and (alike or digits > 0.95) and int((column == cell).sum()) == 1:
            unlike = text
    return unlike, None, bool(unlike) or empty


def _stands_out(raw: list[pd.Series], row: int) -> bool:
    """Whether two numbers of the row lie far beyond those of rows before."""
    count = 0
    for column in raw:
        if is_textual(column) or column.dtype.kind not in "iufIUF" or pd.isna(column.iloc[row]):
            continue
        above = column.iloc[max(0, row - _SAMPLE) : max(1, row - _LAST)].abs().max()
        count += bool(pd.notna(above) and abs(column.iloc[row]) > _BEYOND * above > 0)
    return count > 1


def _describes(
    numbers: list[np.ndarray], row: int, before: np.ndarray, kind: str | None, most: float, *, alone: bool
) -> bool | None:
    """Whether the row describes those ``before``; true where it sums them up, false where it is another number of theirs.

    ``kind``: what it says that it is; ``most``: how likely chance may be; ``alone``: sums beyond all values count alone.
    """
    chances, misfits, beyond = list[float](), 0, 0
    for values in numbers:
        own, above = values[row], values[:row][before]
        above = above[~np.isnan(above)]
        if np.isnan(own) or len(above) < _FEWEST:
            continue
        chance, sums = _chance(own, above, kind)
        if chance is None or (alone and not sums):
            misfits += 1
            continue
        chances.append(chance)
        beyond += sums
    fits = bool(chances) and misfits <= _MISFITS * (len(chances) + misfits) and (not alone or beyond > 1)
    if not fits or (kind is None and np.prod(sorted(chances)[:2]) > most):
        return None
    return beyond > 0


def _chance(own: float, above: np.ndarray, kind: str | None) -> tuple[float | None, bool]:
    """How likely an ordinary value would fit as well, None where ``own`` does not fit; and whether it is a sum beyond them."""
    middle, spread = float(above.mean()), float(above.std())
    if kind is not None and kind != "mean":
        return (0.0, False) if _is_named(own, above, kind) else (None, False)
    written = decimals_of(np.array([own]))
    half = 0.0 if written is None else 0.51 * 10.0**-written
    total, size = float(above.sum()), float(np.abs(above).sum())
    slack = 1e-9 * size + rounding(above)
    if kind is None and abs(own - total) <= slack:
        sums = bool(own > above.max() or own < above.min())
        step = max(slack, half, 1e-12 * size)
        return min(1.0, 2 * step / (max(spread, abs(own - middle)) or 1.0)), sums
    near = max(half, 1e-9 * max(abs(middle), spread))
    if kind == "mean" and abs(own - middle) <= max(near, _NEAR * spread):
        return 0.0, False
    if abs(own - middle) <= near:
        return (min(1.0, 2 * near / spread) if spread else 1.0), False
    return None, False


def _is_named(own: float, above: np.ndarray, kind: str) -> bool:
    if kind == "count":
        return own == len(above)
    if kind == "spread":
        return abs(own - above.std()) <= _NEAR * above.std()
    what = {"median": np.median, "least": np.min, "most": np.max}[kind](above)
    return bool(abs(own - what) <= max(1e-9 * abs(what), _NEAR * above.std() * (kind == "median")))
