"""What is in an uploaded file, as far as that can be told without knowing how a study will read it. Runs in a child process."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from optim_core.data.limits import MAX_TEXT_BYTES
from optim_core.data.notation import Missing
from optim_core.data.readers.formats import TEXTS, check_magic
from optim_core.data.readers.npz_reader import read_npz
from optim_core.data.readers.refusals import empty, malformed
from optim_core.data.readers.table import read_table
from optim_core.data.readers.unpack import unpacked
from optim_core.data.text import plural, show
from optim_core.spec.errors import DataError
from optim_core.spec.problem import FileDataset
from service.operations.csv_size import count_lines
from service.operations.weights_file import tensors_in

_PIECE = 1 << 20
_HEAD = 1 << 12


def content_of(path: Path, name: str, fmt: str) -> str:
    """What the file holds, in a few words. Raises DataError where it is not what ``fmt`` says, or more than the limits.

    A CSV is not taken apart, only counted: which marks separate its fields is for the study to say.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not head:
            raise empty(name)
        if fmt in TEXTS and not head.strip(b"\0"):  # what is left of a file after a crash, on some systems
            raise malformed(name, " holds zero bytes and no text")
        file.seek(0)
        if fmt == "weights":
            return plural(tensors_in(file, name), "tensor")
        content = unpacked(file, name) if fmt in TEXTS else file
        check_magic(content, name, fmt)
        if fmt == "csv":
            return plural(count_lines(content, name), "line")
        if fmt == "text":
            return _text(content, name)
        if fmt == "npz":
            return f"arrays: {len(read_npz(content, name)):,}"
        # The readers want a target; none is looked for here.
        frame = read_table(content, name, fmt, FileDataset(path=name, target="-"), Missing.of(None)).frame
        return f"{plural(len(frame), 'row')} and {plural(len(frame.columns), 'column')}"


def _text(file: BinaryIO, name: str) -> str:
    size = 0
    while piece := file.read(_PIECE):
        size += len(piece)
        if size > MAX_TEXT_BYTES:
            message = (
                f"{show(name)} is longer than the {MAX_TEXT_BYTES:,} bytes that a text may have; give a part of it"
            )
            raise DataError(message, code="too_large", pointer="/dataset/path")
    return f"{plural(size, 'byte')} of text"
