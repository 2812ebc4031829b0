"""How a table is to be read (``--sep``, ``--decimal``, …), and one from a pipe (``--data -``)."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from service import private
from service.cli.errors import CommandError

PIPED = "-"
_PIECE = 1 << 20
_TABS = ("tab", "\\t")

Sep = Annotated[str | None, typer.Option(help="What separates the fields of a CSV: , ; | ^ tab or any other sign.")]
Decimal = Annotated[str | None, typer.Option(help="The decimal mark of a table's numbers: . or ,")]
Encoding = Annotated[str | None, typer.Option(help="Of a table of text, such as latin-1 or utf-16.")]
Na = Annotated[
    str | None,
    typer.Option(help="What stands for no value in a table, separated by commas, instead of NA, ?, - and such."),
]
Header = Annotated[
    str | None, typer.Option(help="none: no row of the table holds names; its columns are 'column 1' and so on.")
]
Sheet = Annotated[str | None, typer.Option(help="Which sheet of a spreadsheet, by its name.")]


@dataclass(frozen=True)
class Reading:
    """The options as they were given."""

    sep: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    na: str | None = None
    header: str | None = None
    sheet: str | None = None

    def fields(self) -> dict[str, Any]:
        """What they are in the spec's data set."""
        given: dict[str, Any] = {"decimal": self.decimal, "encoding": self.encoding, "header": self.header}
        given["sheet"] = self.sheet
        given["sep"] = "\t" if self.sep in _TABS else self.sep
        given["na"] = None if self.na is None else [word.strip() for word in self.na.split(",") if word.strip()]
        return {name: value for name, value in given.items() if value is not None}


def with_reading(document: dict[str, Any], reading: Reading, *, folder: Callable[[], Path]) -> dict[str, Any]:
    """The spec with ``reading`` in its data set, and with a table from a pipe as the file where it is kept.

    ``folder``: where data of studies lie. A study is trained by other processes and resumed on other days, so the table has to
    stay; it is called by its content, and the same table again is the same file.
    """
    dataset, fields = document.get("dataset"), reading.fields()
    table = isinstance(dataset, dict) and dataset.get("kind", "file") in ("file", "artifact")
    if fields and not table:
        raise CommandError(f"--{next(iter(fields))}: says how a table in a file is read")
    if not isinstance(dataset, dict) or not table:
        return document
    dataset = {**dataset, **fields}
    if dataset.get("path") == PIPED:
        dataset["path"] = str(keep_piped(sys.stdin.buffer, folder() / "piped"))
    return {**document, "dataset": dataset}


def keep_piped(stream: BinaryIO, folder: Path) -> Path:
    """The file in ``folder`` with what ``stream`` holds, named by its SHA-256 and the format that its beginning shows.

    Raises CommandError for nothing, or for more than a data set may have.
    """
    from optim_core.data.limits import MAX_FILE_BYTES
    from optim_core.data.readers.formats import piped_suffix

    private.folder(folder)
    digest, size = hashlib.sha256(), 0
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".coming-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if size > MAX_FILE_BYTES:
                    raise CommandError(f"--data -: more than {MAX_FILE_BYTES:,} bytes, which is the limit")
                digest.update(piece)
                file.write(piece)
        if not size:
            raise CommandError("--data -: nothing came through the pipe")
        with open(name, "rb") as file:
            suffix = piped_suffix(file.read(_PIECE))
        kept = folder / f"{digest.hexdigest()}{suffix}"
        os.replace(name, kept)
        return kept
    finally:
        Path(name).unlink(missing_ok=True)
