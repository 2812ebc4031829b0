"""Delimited text by pyarrow's parser, at the speed of the disk, where it reads what the strict one reads.

pyarrow is lenient about quotes, NULs and carriage returns. So a text is looked through first, and goes to the strict parser
unless all of these are in order; whatever pyarrow refuses goes there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc_csv

from optim_core.data.notation import Missing, call, only_words, plain_numbers, written_whole
from optim_core.data.readers.csv_strict import as_strings
from optim_core.data.readers.refusals import check_cells

_BLOCK = 1 << 21
# Python's csv takes no longer field. A line is looked at piece by piece of at most half of that.
_FIELD = 131_072
_QUOTE, _NEWLINE = ord('"'), ord("\n")


def in_order(pieces: Iterable[bytes], delimiter: str) -> bool:
    """Whether both parsers read this text alike: each quote opens a field, closes one, or is doubled in one; no NUL, no
    carriage return but before a line feed, no comment among the rows, no line near the limit of a field.
    """
    quotes = _Quotes(delimiter)
    last, length = b"\n", 0
    for piece in pieces:
        if not piece:
            continue
        end = piece.rfind(b"\n")
        length = length + len(piece) if end < 0 else len(piece) - end
        if b"\0" in piece or length >= _FIELD:
            return False
        # Signs alone are looked for much faster than two in a row, and most texts have neither of these.
        if b"#" in piece or b"\r" in piece or last == b"\r":
            whole = last + piece
            if b"\n#" in whole or whole.count(b"\r") != whole.count(b"\r\n") + whole.endswith(b"\r"):
                return False
        if not quotes.follow(piece):
            return False
        last = piece[-1:]
    return last != b"\r" and quotes.closed


class _Quotes:
    """Every second quote of a text opens a field, the others close it; a doubled one does both."""

    def __init__(self, delimiter: str) -> None:
        self._opens = np.frombuffer((delimiter + '\n"').encode(), np.uint8)
        self._closes = np.frombuffer((delimiter + '\r\n"').encode(), np.uint8)
        self._inside, self._before, self._check_next = False, _NEWLINE, False
        self._length = 0

    def follow(self, piece: bytes) -> bool:
        """Whether all is in order so far. ``piece`` comes after those before it."""
        if b'"' not in piece and not self._check_next:
            self._before = piece[-1]
            self._length += len(piece)
            return not self._inside or self._length < _FIELD
        signs = np.frombuffer(piece, np.uint8)
        if self._check_next and signs[0] not in self._closes:
            return False
        places = np.flatnonzero(signs == _QUOTE)
        opening, closing = places[int(self._inside) :: 2], places[1 - int(self._inside) :: 2]
        before = np.where(opening > 0, signs[opening - 1], self._before)
        after = closing + 1
        inner = after[after < len(signs)]
        good = np.isin(before, self._opens).all() and np.isin(signs[inner], self._closes).all()
        self._check_next = bool(len(closing) and closing[-1] == len(signs) - 1)
        if len(places) % 2:
            self._inside = not self._inside
        self._length = len(signs) - int(places[-1]) if len(places) else self._length + len(signs)
        self._before = int(signs[-1])
        return bool(good)

    @property
    def closed(self) -> bool:
        return not self._inside


def read_fast(
    stream_of: Callable[[], BinaryIO], name: str, delimiter: str, width: int, missing: Missing
) -> list[pd.Series]:
    """``width`` columns: float64 where every cell is a plain number or missing, else strings, untouched.

    ``stream_of()`` gives the rows as UTF-8, anew each time. Raises pa.ArrowInvalid where a row does not fit.
    """
    found = [_Growing(missing) for _ in range(width)]
    for rows, batch in _batches(stream_of(), range(width), width, delimiter):
        check_cells(name, rows, width)
        for column, part in zip(found, batch, strict=True):
            column.add(part)
    late = [place for place, column in enumerate(found) if column.is_late]
    if late:
        # Numbers or gaps at first, then something else, or nothing but words for gaps: read again as they stand.
        for place in late:
            found[place] = _Growing(None)
        for _, batch in _batches(stream_of(), late, width, delimiter):
            for place, part in zip(late, batch, strict=True):
                found[place].add(part)
    return [column.values() for column in found]


class _Growing:
    """A column as its parts come in: int64 where it is written in whole numbers, else float64, or strings. ``missing`` None: as
    strings, whatever they are.
    """

    def __init__(self, missing: Missing | None) -> None:
        self._missing, self._texts = missing, list[pa.Array]()
        # One buffer that grows: of parts that are joined in the end, both would be held.
        self._numbers, self._count = np.empty(0), 0
        self._textual, self._whole, self._empty, self._worded = missing is None, True, True, False

    def add(self, part: pa.Array) -> None:
        if not self._textual:
            assert self._missing is not None
            numbers = plain_numbers(part, self._missing)
            if numbers is not None:
                self._whole = self._whole and written_whole(numbers, part)
                self._worded = self._worded or only_words(numbers, part)
                self._empty = self._empty and bool(np.isnan(numbers).all())
                self._append(numbers)
                return
            self._textual = True
        if not self.is_late:
            self._texts.append(part)

    def _append(self, numbers: np.ndarray) -> None:
        end = self._count + len(numbers)
        if end > len(self._numbers):
            self._numbers.resize(max(end, len(self._numbers) * 5 // 4), refcheck=False)
        self._numbers[self._count : end] = numbers
        self._count = end

    @property
    def is_late(self) -> bool:
        return (self._textual or (self._worded and self._empty)) and self._count > 0

    def values(self) -> pd.Series:
        if self._textual or not self._count:
            # Within quotes a line may end as on Windows; our own parser reads lines, and ends them alike.
            return as_strings([_lines_ended_alike(x) for x in self._texts])
        self._numbers.resize(self._count, refcheck=False)
        return pd.Series(self._numbers.astype(np.int64) if self._whole else self._numbers, copy=False)


def _lines_ended_alike(texts: pa.Array) -> pa.Array:
    """With a line feed alone; most columns have no other."""
    content = texts.buffers()[2]
    if content is None or b"\r" not in content.to_pybytes():
        return texts
    return call("replace_substring", texts, pattern="\r\n", replacement="\n")


def _batches(
    stream: BinaryIO, places: Iterable[int], width: int, delimiter: str
) -> Iterator[tuple[int, list[pa.Array]]]:
    """What ``_parsed`` gives. The next batch is parsed while one is worked on, and no more: memory stays as it is."""
    parsed = _parsed(stream, places, width, delimiter)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parsed, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, parsed, None)
            yield batch


def _parsed(
    stream: BinaryIO, places: Iterable[int], width: int, delimiter: str
) -> Iterator[tuple[int, list[pa.Array]]]:
    """Rows so far, and the columns at ``places`` of the next ones, as strings with null for what is empty."""
    names = [str(place) for place in range(width)]
    wanted = [str(place) for place in places]
    try:
        reader = pc_csv.open_csv(
            stream,
            read_options=pc_csv.ReadOptions(column_names=names, block_size=_BLOCK),
            parse_options=pc_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pc_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.large_string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return
        raise
    rows = 0
    for batch in reader:
        rows += batch.num_rows
        yield rows, batch.columns
