"""Lines of a text table that have fewer or more fields than it has columns: rows that end early, or no rows at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optim_core.data.readers.head_rows import is_number
from optim_core.data.readers.margins import is_rule, key_of, passed_over_below, passed_over_rules
from optim_core.data.text import plural

# Rows that end early are an oversight where they are few; else the table is not understood.
_FEW, _FEW_SHARE = 3, 0.1
_SHOWN = 5
# Beyond so many in a row they are rows, whatever comes after them.
_MOST_WAITING = 20


class Ragged:
    """Judges such lines of a table of ``width`` columns in the order of the file. ``add`` takes a row; ``heads``: the rows
    above the table, as ``key_of`` has them.

    What is short waits for what follows: before a row it is one itself, before a ruled line or the names it is the title of a
    page, and at the end it stands below the table.
    """

    def __init__(self, add: Callable[[list[str]], None], width: int, heads: Sequence[tuple[str, ...]]) -> None:
        self._add, self._width, self._heads = add, width, frozenset(heads)
        self._waiting: list[tuple[list[str], int]] = []
        self._apart: list[bool] = []
        self._blank = False
        self._row: list[str] = []
        self.short: list[tuple[list[str], int]] = []
        self._long: list[int] = []
        self._comments = self._rules = self._repeated = self._titles = 0
        self._below: list[str] = []

    def settle(self, row: list[str]) -> None:
        """``row``, one of the table, comes next."""
        self._blank = False
        if self._waiting:
            if key_of(row) in self._heads or is_rule(row):
                self._leave_titles()
            self._fill()
        self._row = row

    def take(self, row: list[str], line: int) -> bool:
        """Whether a row of another width can be understood; ``line``: its number."""
        if not any(cell and not cell.isspace() for cell in row):
            self._blank = self._blank or len(row) < 2
            if len(row) > 1:
                self._long += [line] if len(row) > self._width else []
            return True
        if row[0].lstrip().startswith("#"):
            self._comments += 1
        elif is_rule(row):
            self._rules += 1
            self._blank = True
            self._leave_titles()
        elif key_of(row) in self._heads:
            self._repeated += 1
            self._leave_titles()
        elif len(row) > self._width:
            if any(cell.strip() for cell in row[self._width :]):
                return False
            self._long.append(line)
            self.settle(row[: self._width])
            self._add(row[: self._width])
        else:
            self._waiting.append((row, line))
            self._apart.append(self._blank)
            self._blank = False
            if len(self._waiting) > _MOST_WAITING:
                self._fill()
        return True

    def end(self) -> None:
        """No more rows come."""
        while self._waiting:
            place = next((i for i, (row, _) in enumerate(self._waiting) if self._is_below(row, self._apart[i])), None)
            if place is None:
                self._fill()
                return
            # What comes after a line below the table stands there, too.
            below = self._waiting[place:]
            self._waiting, self._apart = self._waiting[:place], self._apart[:place]
            self._below += [", ".join(cell.strip() for cell in row if cell.strip()) for row, _ in below]

    def too_many(self, rows: int) -> bool:
        """Whether more than a few of so many ``rows`` end early."""
        return len(self.short) > max(_FEW, _FEW_SHARE * rows)

    def report(self) -> list[str]:
        """What was done, a sentence each."""
        said = []
        if self._comments:
            said.append(f"Passed over {plural(self._comments, 'comment')} among the rows.")
        if self._rules:
            said.append(passed_over_rules(self._rules))
        if self._repeated:
            said.append(f"Passed over {plural(self._repeated, 'line')} that stood above the names already.")
        if self._titles:
            said.append(f"Passed over {plural(self._titles, 'line')} between the pages of the table.")
        if self._below:
            said.append(passed_over_below(len(self._below), self._below[0]))
        if self.short:
            what = f"{plural(len(self.short), 'row')} {'has' if len(self.short) == 1 else 'have'} fewer fields than the table"
            which = _lines([line for _, line in self.short])
            said.append(f"Warning short_rows: {what} has columns ({which}); the last ones count as missing there.")
        if self._long:
            said.append(f"Passed over empty fields beyond the last column in {_lines(self._long)}.")
        return said

    def _is_below(self, row: list[str], apart: bool) -> bool:
        filled = [place for place, cell in enumerate(row) if cell.strip()]
        if apart or len(filled) == 1:
            return True
        above = self._row
        return any(above and is_number(above[i].strip()) and not is_number(row[i].strip()) for i in filled)

    def _fill(self) -> None:
        for row, line in self._waiting:
            self.short.append((row, line))
            self._row = [*row, *[""] * (self._width - len(row))]
            self._add(self._row)
        self._waiting, self._apart = [], []

    def _leave_titles(self) -> None:
        titles = [sum(bool(cell.strip()) for cell in row) == 1 for row, _ in self._waiting]
        self._titles += sum(titles)
        kept = [i for i, title in enumerate(titles) if not title]
        self._waiting, self._apart = [self._waiting[i] for i in kept], [self._apart[i] for i in kept]


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(f"{number:,}" for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN:,} more" if len(numbers) > _SHOWN else ""
    return f"line{'' if len(numbers) == 1 else 's'} {shown}{more}"
