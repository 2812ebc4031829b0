"""How a table of text is laid out: what separates its fields, and which line holds the names.

Both are decided by the first lines together: most of them have as many fields as the table has columns.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from optim_core.data.readers.head_rows import are_units, is_number, joined_names
from optim_core.data.readers.headers import clean_name
from optim_core.data.readers.margins import is_rule, key_of
from optim_core.data.text import plural, show, show_some

DELIMITERS = {
    ",": "commas",
    ";": "semicolons",
    "\t": "tabs",
    "|": "bars",
    " ": "spaces",
    "^": "carets",
    "~": "tildes",
    "\x01": "the sign \\x01",
}
_COMMON = (",", ";", "\t", "|")
_RARE = ("\x01", "^", "~")
# Spaces stand within cells, too: they separate where nothing else does.
_WEAK = 0.5
_LINES = 200
# So many of the rows have as many fields as the table has columns, but for lines that are none of its rows.
_ALIKE = 0.9


@dataclass(frozen=True)
class Layout:
    """``header``: the names as they stand, one a column. ``lines`` of the file are read with them; ``report``: sentences.
    ``heads``: the rows in these lines, as ``key_of`` has them.
    """

    delimiter: str
    header: list[str]
    lines: int
    report: list[str]
    heads: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Heading:
    """What the first rows of a table say: ``names`` of the columns; ``rows``: how many rows these and all above them take;
    ``heads``: these rows, as ``key_of`` has them.
    """

    names: list[str]
    rows: int
    report: list[str]
    heads: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """``last``: the number of the line it ends on."""

    fields: list[str]
    last: int

    @property
    def filled(self) -> int:
        return sum(bool(field.strip()) for field in self.fields)


def find_layout(
    lines: Sequence[str], delimiter: str | None, target: str | None = None, headless: bool = False
) -> Layout | None:
    """The layout of a text from its first ``lines``; None when all of them are blank.

    ``target``: the name of a column, which what separates the fields has to lay bare; ``headless``: no line holds names.
    """
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return None
    if delimiter:
        return _laid_out(_records(lines, delimiter), delimiter, target, headless)
    records = {one: _records(lines, one) for one in DELIMITERS}
    scores = {one: _agreement(records[one]) for one in DELIMITERS}
    # Decimal commas, and commas within texts, may occur as often as what separates the fields, but not in the names.
    order = sorted(
        _COMMON, key=lambda one: (scores[one] >= _WEAK and _has_names(records[one]), scores[one]), reverse=True
    )
    # These, too, as signs of text, unless no other sign separates.
    if scores[order[0]] < _WEAK:
        order = [*(one for one in (*_RARE, " ") if scores[one] > _WEAK), *order]
    layouts = [_laid_out(records[one], one, target, headless) for one in order if one == order[0] or scores[one] > 0]
    named = (one for one in layouts if _names(one.header, target))
    return next(named, layouts[0])


def dialect(delimiter: str) -> dict[str, Any]:
    """For Python's csv. Several spaces are one."""
    return {"delimiter": delimiter, "skipinitialspace": delimiter == " "}


def bare(delimiter: str) -> Callable[[str], str]:
    """What becomes of a line first: between spaces, those at its ends separate nothing."""
    return (lambda line: line.strip() + "\n") if delimiter == " " else str


def head_of(rows: Sequence[Sequence[object]], target: str | None, headless: bool) -> Heading:
    """What the first ``rows`` of a sheet say of its columns, a record a row."""
    records = [
        _Record(["" if cell is None else str(cell) for cell in row], place)
        for place, row in enumerate(rows, start=1)
        if any(cell is not None and str(cell).strip() for cell in row)
    ]
    return _heading(records, " ", target, headless) if records else Heading([], 0, [])


def _records(lines: Sequence[str], delimiter: str) -> list[_Record]:
    reader = csv.reader(map(bare(delimiter), lines), **dialect(delimiter))
    found = []
    try:
        for fields in islice(reader, _LINES):
            if any(field.strip() for field in fields) and not is_rule(fields):
                found.append(_Record(fields, reader.line_num))
    except csv.Error:
        # The strict parser says what it is.
        pass
    return found


def _names(header: Sequence[str], target: str | None) -> bool:
    return any(clean_name(one) == target for one in header)


def _has_names(records: list[_Record]) -> bool:
    """Whether the first row has as many fields as the others, or one less."""
    rows = [record for record in records if not _is_comment(record)]
    if not rows:
        return False
    width, _ = _width(rows)
    return width > 1 and len(rows[0].fields) >= (width - 1 if width > 2 else width)


def _agreement(records: list[_Record]) -> float:
    """Delimiters a row where rows agree; little where the names do not, as when commas are those of decimals."""
    rows = [record for record in records if not _is_comment(record)]
    if not rows:
        return 0.0
    width, count = _width(rows)
    off = abs(len(_header(records).fields) - width)
    return count * (width - 1) / len(rows) * (1.0, 0.9, 0.1)[min(off, 2)]


def _width(rows: Sequence[_Record]) -> tuple[int, int]:
    """The commonest number of fields of the rows after the first, wider ones first, and how often it occurs."""
    counts = Counter(len(row.fields) for row in (rows[1:] or rows))
    return max(counts.items(), key=lambda item: (item[1], item[0]))


def _is_comment(record: _Record) -> bool:
    return record.fields[0].lstrip().startswith("#")


def _header(records: list[_Record]) -> _Record:
    """The row of the names: the first one that is as wide as the table, or one short of it, and mostly filled."""
    rows = [record for record in records if not _is_comment(record)] or records
    width, _ = _width(rows)
    for row in rows[:-1]:
        wide = width - 1 <= len(row.fields) if width > 2 else len(row.fields) >= width
        if wide and 2 * row.filled >= width:
            # Names, not the first row of a table whose title was mistaken for something else.
            return row if row is rows[0] or not any(is_number(f.strip()) for f in row.fields) else rows[0]
    return rows[0]


def _laid_out(records: list[_Record], delimiter: str, target: str | None, headless: bool) -> Layout:
    if not records:
        return Layout(delimiter, [], 0, [])
    found = _heading(records, delimiter, target, headless)
    behind = [record for record in records if record.last > found.rows and not _is_comment(record)]
    return Layout(delimiter, _as_wide(found.names, behind), found.rows, found.report, found.heads)


def _heading(records: list[_Record], delimiter: str, target: str | None, headless: bool) -> Heading:
    header, report = _header(records), list[str]()
    names, above = header.fields, [r for r in records if r.last < header.last]
    commented = next((r for r in reversed(above) if _is_comment(r)), None)
    if commented is not None and commented is above[-1] and _all_numbers(header):
        # numpy.savetxt writes the names as a comment.
        mark = commented.fields[0].lstrip().lstrip("#")
        names = [*([mark] if mark.strip() else []), *commented.fields[1:]]
        if len(names) == len(header.fields):
            header, above = commented, above[:-1]
        else:
            names = header.fields
    last = header.last
    if headless:
        names, last = [""] * len(header.fields), above[-1].last if above else 0
    behind = [record for record in records if record.last > last and not _is_comment(record)]
    behind = [record for record in behind if headless or record.fields != header.fields]
    if not headless:
        names, above, behind, said = _of_two_rows(names, above, behind, target)
        report += said
        if behind and are_units(behind[0].fields, [record.fields for record in behind[1:]]):
            units = show_some(cell.strip() for cell in behind[0].fields if cell.strip())
            report.append(f"The row under the names ({units}) holds units and is no row of the table.")
            behind = behind[1:]
        if report:
            last = max(record.last for record in records if not behind or record.last < behind[0].last)
    if above:
        comments = sum(_is_comment(record) for record in above)
        what = "comment" if comments == len(above) else "line"
        first = show(delimiter.join(above[0].fields).strip())
        report.insert(0, f"Passed over {plural(len(above), what)} above the names, such as {first}.")
    heads = [] if headless else [key_of(record.fields) for record in records if record.last <= last]
    return Heading(names, last, report, heads)


def _of_two_rows(
    names: list[str], above: list[_Record], behind: list[_Record], target: str | None
) -> tuple[list[str], list[_Record], list[_Record], list[str]]:
    """The names, the rows above and behind them, and a sentence, where they stand in two rows, as under merged cells."""
    rows = [record.fields for record in behind]
    pairs = []
    if rows and len(names) >= len(rows[0]) - 1:
        pairs.append((names, rows[0], rows[1:], above, behind[1:]))
    if above and above[-1].filled > 1:
        fields = above[-1].fields
        if any(up.strip() and not low.strip() for up, low in zip(fields, names, strict=False)):
            pairs.append((fields, names, rows, above[:-1], behind))
    for upper, lower, below, before, after in pairs:
        found = joined_names(upper, lower, below)
        if found is not None and (not _names(names, target) or _names(found, target)):
            example = next(one for one in found if one not in names)
            return found, before, after, [f"The names stand in two rows and are joined, such as {show(example)}."]
    return names, above, behind, []


def _as_wide(names: list[str], rows: list[_Record]) -> list[str]:
    """The names with one more, or without those at the end that are none, where the rows ask for it."""
    if not rows:
        return names
    counts = Counter(len(row.fields) for row in rows)
    width, often = max(counts.items(), key=lambda item: (item[1], item[0]))
    if often < _ALIKE * len(rows):
        return names
    if width == len(names) + 1:
        # Either every row ends with a delimiter, or the rows have names of their own, as R writes them.
        ends = all(not row.fields[-1].strip() for row in rows if len(row.fields) == width)
        return [*names, ""] if ends else ["", *names]
    while width and len(names) > width and not names[-1].strip():
        names = names[:-1]
    return names


def _all_numbers(record: _Record) -> bool:
    return all(is_number(field.strip()) for field in record.fields)
