"""Merged cells of a sheet: the file keeps their value in the first one, and which cells it stands for behind all rows."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, BinaryIO

from optim_core.data.text import plural, show_some

# Read as they stand, in pieces: openpyxl's stream of rows knows nothing of them.
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})\"")
_PIECE, _LONGEST = 1 << 20, 200


class Merged:
    """Gives the value of merged cells to each of the rows that they span. Rows come in order, by their numbers in the sheet."""

    def __init__(self, file: BinaryIO, part: str) -> None:
        """``part``: the name of the sheet's XML in the archive ``file``."""
        self._starts: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self._open: dict[int, tuple[int, Any, tuple[int, int]]] = {}
        self._filled: dict[int, set[tuple[int, int]]] = defaultdict(set)
        file.seek(0)
        with zipfile.ZipFile(file) as archive, archive.open(part.lstrip("/")) as sheet:
            rest = b""
            while piece := sheet.read(_PIECE):
                text = rest + piece
                end = 0
                for found in _MERGED.finditer(text):
                    end = found.end()
                    left, top, right, bottom = found.groups()
                    # Merged along one row cells are a title or a label, and no value of each column.
                    if top != bottom:
                        self._starts[int(top)].append((_place(left), _place(right), int(bottom)))
                rest = text[max(end, len(text) - _LONGEST) :]

    def fill(self, number: int, row: Sequence[Any]) -> tuple[Any, ...]:
        """The cells of the row with that ``number``, with the values of those that are merged with one above."""
        for left, right, bottom in self._starts.get(number, ()):
            value = row[left] if left < len(row) else None
            if value is not None:
                for place in range(left, min(right + 1, max(len(row), left + 1))):
                    self._open[place] = (bottom, value, (number, left))
        if not self._open:
            return tuple(row)
        cells = list(row)
        for place, (bottom, value, merged) in list(self._open.items()):
            if number > bottom:
                del self._open[place]
            elif place >= len(cells) or cells[place] is None:
                cells += [None] * (place + 1 - len(cells))
                cells[place] = value
                self._filled[place].add(merged)
        return tuple(cells)

    def report(self, names: Sequence[str]) -> list[str]:
        """What was filled, in a sentence."""
        if not self._filled:
            return []
        count = len(set().union(*self._filled.values()))
        where = show_some(
            (names[place] if place < len(names) else "") or f"column {place + 1}" for place in sorted(self._filled)
        )
        return [f"Merged cells of {where} ({plural(count, 'value')}) count in each row that they span."]


def _place(letters: bytes) -> int:
    """0 of column A, 26 of AA."""
    place = 0
    for letter in letters:
        place = place * 26 + letter - 64
    return place - 1
