"""Rows that sum up other rows: a spreadsheet's last line is no observation, and would decide every squared error."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from optim_core.data.notation import is_textual
from optim_core.data.source import Source
from optim_core.data.summaries import Summary, as_numbers, columns_of_numbers, rounding, summaries
from optim_core.data.text import plural, show_some

# Whole cells. The first are said of sums alone; the second may be a name, and must look like a sum, too.
_SURE = (
    "subtotal|subtotals|grand total|total general|sum total|overall total|zwischensumme|gesamtsumme|endsumme|insgesamt|summe"
    "|gesamtergebnis|sous total|soustotal|total général|subtotale|totale generale|suma|suma total|totaal|subtotaal"
)
_PERHAPS = (
    "total|totals|sum|gesamt|ergebnis|teilergebnis|overall|all|alle|totale|totali|totales|totaux|somme|somma|soma|ensemble"
    "|razem|итого|всего|合计|总计"
)
_WORDS = re.compile(rf"^(?:(?P<sure>{_SURE})|{_PERHAPS})$")
# Inside a longer label, where only a sum that adds up is believed: "Total North", "Summe Nord".
_INSIDE = re.compile(
    r"\b(?:sub|grand |gesamt|zwischen)?(?:total|totals|totale|summe|ergebnis|suma|somme|insgesamt|sum of)\b"
)
# Beyond this share of the rows it is a category like others, unless each adds up.
_MOST = 0.1
_FEWEST = 3
_EXACT = 1e-9
# Words for sums stand among names, not in long texts.
_LONGEST, _MOST_TEXTS = 40, 5_000


def without_totals(source: Source) -> Source:
    """The source without rows that sum up or describe others, and a sentence that names them.

    A row is one where a text says so (``Total``, ``Zwischensumme``) in a column that otherwise says something else and a number
    of it is at least half of what it may sum up; the last one where its target is the sum of all others; and one of the last
    where ``summaries`` finds that it holds their sums or means.
    """
    if isinstance(source.features, np.ndarray) or len(source.target) < _FEWEST:
        return source
    said, inside = _labelled(source)
    gone: dict[int, str] = {}
    if said or inside:
        columns = _numbers(source)
        sums = _Sums(columns, {*said})
        found = {row: word for row, (word, sure) in said.items() if sure or sums.add_up(row, exactly=False)}
        if len(said) > _MOST * len(source.target):
            found = {row: word for row, word in found.items() if sums.add_up(row, exactly=True)}
        sums = _Sums(columns, {*said, *inside}) if inside else sums
        gone = found | {row: word for row, word in inside.items() if sums.add_up(row, exactly=True)}
    last = len(source.target) - 1
    if last not in gone:
        tail = as_numbers(source.target.iloc[max(0, last - 50) :], source.notation)
        if tail is not None and tail[-1] > 0 and tail[-1] >= np.nanmax(tail):
            target = as_numbers(source.target, source.notation)
            # Of values of both signs the sum may be like any other.
            if target is not None and np.nanmin(target) >= 0 and _Sums([target], {*gone}).add_up(last, exactly=True):
                gone[last] = ""
    told = {row: Summary(word, sums=True) for row, word in gone.items()}
    told |= summaries(source, told.keys())
    if not told or len(told) == len(source.target):
        return source
    return _without(source, told)


def _without(source: Source, gone: dict[int, Summary]) -> Source:
    rows = sorted(gone)
    numbers = source.numbered()[rows]
    words = list(dict.fromkeys(gone[row].word for row in rows if gone[row].word))
    why = f"which {'says' if len(rows) == 1 else 'say'} {show_some(words)} and" if words else "which"
    one = len(rows) == 1
    which = f"data row{'' if one else 's'} {', '.join(f'{n}' for n in numbers[:5])}{' …' if len(rows) > 5 else ''}"
    does = f"{'sums' if one else 'sum'} up others and would decide every error"
    if not any(gone[row].sums for row in rows):
        does = f"{'holds' if one else 'hold'} means and the like of others"
    elif not all(gone[row].sums for row in rows):
        does = "hold sums, means and the like of others"
    sentence = (
        f"Warning totals_left_out: left out {plural(len(rows), 'row')} ({which}), {why} {does}; a row that is none keeps its "
        "place under another name."
    )
    kept = np.ones(len(source.target), dtype=bool)
    kept[rows] = False
    part = source.only(kept)
    part.report.append(sentence)
    return part


def _labelled(source: Source) -> tuple[dict[int, tuple[str, bool]], dict[int, str]]:
    """Row → (word, whether it is said of sums alone) of cells that are such a word; row → cell of those that contain one."""
    assert isinstance(source.features, pd.DataFrame)
    said: dict[int, tuple[str, bool]] = {}
    inside: dict[int, str] = {}
    for name in source.features:
        raw = pd.Series(source.features[name])
        if not is_textual(raw):
            continue
        # Of long columns of many texts the ends: that is where sums stand.
        ends = pd.concat([raw.iloc[:2], raw.iloc[-3:]])
        many = raw.head(4 * _MOST_TEXTS).nunique() > _MOST_TEXTS
        distinct = (ends if many else raw).dropna().unique()
        if len(distinct) > _MOST_TEXTS:
            distinct = ends.dropna().unique()
        for cell in distinct:
            text = str(cell)
            if len(text) > _LONGEST or text[:1].isdigit():
                continue
            plain = re.sub(r"[\s_-]+", " ", text).strip(" :.*=").lower()
            word = _WORDS.match(plain)
            if word is None and not _INSIDE.search(plain):
                continue
            rows = np.flatnonzero((raw == cell).to_numpy(bool, na_value=False))
            # Rows without a text, or with another one, are the others.
            if len(rows) * 2 > len(raw) or len(rows) == raw.count():
                continue
            if word is not None:
                said |= {int(row): (text.strip(), word["sure"] is not None) for row in rows}
            else:
                inside |= {int(row): text.strip() for row in rows}
    return said, inside


def _numbers(source: Source) -> list[np.ndarray]:
    raw = [source.target, *(pd.Series(source.features[name]) for name in source.features)]  # type: ignore[index]
    return columns_of_numbers(raw, source.notation)


class _Sums:
    """Sums of the rows before a row: back to the last of ``others``, and of all; of the first row those after it."""

    def __init__(self, columns: list[np.ndarray], others: set[int]) -> None:
        rows = len(columns[0]) if columns else 0
        self._at = np.array(sorted(others), dtype=np.int64)
        self._columns = []
        for values in columns:
            plain = np.nan_to_num(values)
            plain[self._at] = 0.0
            sums = [np.r_[0.0, np.cumsum(part)] for part in (plain, np.abs(plain), plain != 0)]
            self._columns.append((values, sums, rounding(values)))
        self._rows = rows

    def add_up(self, row: int, *, exactly: bool) -> bool:
        """Whether a number of ``row`` is such a sum; not ``exactly``: at least half of it."""
        place = int(np.searchsorted(self._at, row))
        starts = {int(self._at[place - 1]) + 1 if place else 0, 0}
        spans = [(first, row) for first in starts] if row else [(1, self._rows)]
        for values, sums, slack in self._columns:
            own = values[row]
            if np.isnan(own) or own == 0:
                continue
            for first, end in spans:
                total, size, count = (part[end] - part[first] for part in sums)
                if count >= _FEWEST and (
                    abs(total - own) <= _EXACT * size + slack if exactly else own * np.sign(total) >= size / 2
                ):
                    return True
        return False
