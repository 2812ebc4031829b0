"""A sheet of a spreadsheet to columns, by openpyxl, row by row.

python-calamine is several times as fast, but takes memory for every cell up to the farthest one, so that two cells can ask for
a terabyte, and a panic in it ends the process. openpyxl reads as a stream; the XML parser beneath resolves no external entity.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, BinaryIO

import pandas as pd

from optim_core.data.limits import MAX_COLUMNS
from optim_core.data.readers.cells import Growing
from optim_core.data.readers.headers import clean_name, column_names
from optim_core.data.readers.layout import Heading, head_of
from optim_core.data.readers.refusals import check_cells, empty, malformed, unreadable
from optim_core.data.readers.xlsx_merged import Merged
from optim_core.data.readers.zip_check import check_entries
from optim_core.data.text import show, show_some
from optim_core.spec.errors import DataError
from optim_core.spec.names import did_you_mean

_LOOKED_AT = 100
# Rows without a cell between others: what a sheet may have of them before the rest is no table.
_MAX_GAP = 10_000
_Read = tuple[list[str], list[pd.Series], list[str], list[tuple[str, ...]]]


@dataclass(frozen=True)
class Wanted:
    """``target``: the name of a column, if one is known; ``sheet``: the one to read; ``headless``: no row holds names."""

    target: str | None = None
    sheet: str | None = None
    headless: bool = False


@dataclass(frozen=True)
class _Sheet:
    """``head``: its first rows with a cell; ``rows``: those after them; ``numbers``: of the first rows in the sheet, the later
    ones have theirs in front. ``part``: its XML in the archive.
    """

    title: str
    part: str
    head: list[tuple[Any, ...]]
    numbers: list[int]
    heading: Heading
    rows: Iterator[tuple[int, tuple[Any, ...]]] = field(repr=False)

    def has(self, target: str | None) -> bool:
        return target is not None and target in column_names(self.heading.names)[0]

    @property
    def is_table(self) -> bool:
        """Whether it may be more than a cover: several names, and rows under them."""
        return len(self.heading.names) > 1 and len(self.head) > self.heading.rows


def read_xlsx(file: BinaryIO, name: str, wanted: Wanted) -> _Read:
    """Names, columns, sentences, and the rows of the names as ``key_of`` has them, of the sheet that is asked for, else of the
    first that has the target, else of the first table. Raises DataError ``malformed_table``, ``malformed_archive``,
    ``too_large``, ``too_large_unpacked``, ``too_many_columns``, ``empty_file``, ``sheet_missing``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = check_entries(archive, name)
            _refuse_entities(archive, entries, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(file, name, wanted)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # damage shows as whatever the library happens to trip over
        raise unreadable(name, "a spreadsheet", error) from None


def _read(file: BinaryIO, name: str, wanted: Wanted) -> _Read:
    book = _book(file)
    titles = [str(sheet.title) for sheet in book.worksheets]
    filled = _sheets(book, name, wanted)
    if not filled:
        raise empty(name)
    having = [sheet for sheet in filled if sheet.has(wanted.target)]
    chosen = next(iter(having), None) or next((one for one in filled if one.is_table), filled[0])
    merged = Merged(file, chosen.part)
    names, columns = _columns(chosen, name, merged)
    report = [*chosen.heading.report, *merged.report(names)]
    if len(titles) > 1:
        others = show_some(title for title in titles if title != chosen.title)
        where = f"Read the sheet {show(chosen.title)}, which is one of {len(titles)} (the others: {others})"
        more = "; sheet: says which, as several have the target" if len(having) > 1 else ""
        report.insert(0, f"{where}{more}.")
    lost = _formulas(file, chosen)
    if lost:
        which = show_some(names[place] or f"column {place + 1}" for place in lost)
        what = f"formulas in {which} have no stored values: open the file in a spreadsheet program and save it"
        if any(clean_name(names[place]) == wanted.target for place in lost):
            raise malformed(name, f" cannot be used: the {what}")
        report.append(f"Warning formulas: {what}.")
    return names, columns, report, chosen.heading.heads


def _book(file: BinaryIO, *, formulas: bool = False) -> Any:
    from openpyxl import load_workbook

    file.seek(0)
    return load_workbook(file, read_only=True, data_only=not formulas, keep_links=False)


def _sheets(book: Any, name: str, wanted: Wanted) -> list[_Sheet]:
    """The sheets with a cell, hidden ones only where no other is there; or the one that is asked for."""
    if wanted.sheet is not None:
        found = [sheet for sheet in book.worksheets if clean_name(sheet.title) == clean_name(wanted.sheet)]
        if not found:
            titles = [str(sheet.title) for sheet in book.worksheets]
            hint = did_you_mean(wanted.sheet, titles) or f"; the sheets are {show_some(titles, 8)}"
            message = f"there is no sheet {show(wanted.sheet)}{hint}"
            raise DataError(message, code="sheet_missing", pointer="/dataset/sheet")
    else:
        found = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
    sheets = []
    for sheet in found:
        sheet.reset_dimensions()
        rows = _filled(sheet.iter_rows(values_only=True), name)
        first = list(islice(rows, _LOOKED_AT))
        if first:
            head = [row for _, row in first]
            heading = head_of(head, wanted.target, wanted.headless)
            part = str(sheet._worksheet_path)
            sheets.append(_Sheet(str(sheet.title), part, head, [number for number, _ in first], heading, rows))
    return sheets


def _columns(sheet: _Sheet, name: str, merged: Merged) -> tuple[list[str], list[pd.Series]]:
    names = list(sheet.heading.names)
    table = Growing()

    def add(row: tuple[Any, ...]) -> None:
        for column in range(max(len(row), len(names))):
            value = row[column] if column < len(row) else None
            table.add(str(column), None if isinstance(value, str) and not value.strip() else value)
        table.next_row()
        check_cells(name, table.rows, table.width)

    first = zip(sheet.numbers, sheet.head, strict=True)
    for number, row in chain(islice(first, sheet.heading.rows, None), sheet.rows):
        add(merged.fill(number, row))
    columns = table.columns() or [pd.Series([], dtype="str") for _ in names]
    return names + [""] * (len(columns) - len(names)), columns


def _formulas(file: BinaryIO, sheet: _Sheet) -> list[int]:
    """Places of the columns with a formula in the first rows whose result is not in the file, as programs write them that do
    not calculate.
    """
    rows = sheet.head[sheet.heading.rows :]
    if all(cell is not None for row in rows for cell in row) and len({len(row) for row in rows}) == 1:
        return []
    (own,) = (one for one in _book(file, formulas=True).worksheets if str(one.title) == sheet.title)
    own.reset_dimensions()
    found = set[int]()
    # Rows of formulas alone are empty without them, so that the rows of the two readings do not go together.
    for row in islice(own.iter_rows(values_only=True), 2 * _LOOKED_AT):
        found |= {place for place, cell in enumerate(row) if isinstance(cell, str) and cell.startswith("=")}
    valued = {place for row in rows for place, cell in enumerate(row) if cell is not None}
    return sorted(place for place in found - valued if place < len(sheet.heading.names))


def _filled(rows: Iterator[tuple[Any, ...]], name: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows with a cell, and their numbers."""
    gap = 0
    for number, row in enumerate(rows, start=1):
        cells = len(row)
        while cells and (row[cells - 1] is None or row[cells - 1] == ""):
            cells -= 1
        if cells > MAX_COLUMNS:
            check_cells(name, 1, cells)
        if cells:
            gap = 0
            yield number, row[:cells]
            continue
        gap += 1
        if gap > _MAX_GAP:
            return


def _refuse_entities(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], name: str) -> None:
    """No part of a spreadsheet declares a document type, the place where entities are defined that grow without bound."""
    for entry in entries:
        if not entry.filename.lower().endswith((".xml", ".rels", ".vml")):
            continue
        with archive.open(entry) as part:
            head = part.read(4096)
        if b"<!DOCTYPE" in head or "<!DOCTYPE".encode("utf-16-le") in head or "<!DOCTYPE".encode("utf-16-be") in head:
            raise malformed(name, f": {show(entry.filename)} declares a document type, which spreadsheets never do")
