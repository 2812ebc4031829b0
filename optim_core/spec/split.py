"""How the rows of a table become training, validation and test rows."""

from __future__ import annotations

import json
import re
import shlex
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from optim_core.spec.artifacts import StoredFile, clean_file
from optim_core.spec.base import Value, clean_name
from optim_core.spec.errors import SpecError
from optim_core.spec.names import did_you_mean

By = Literal["random", "time", "group", "column", "files"]
# Those that name a column; the others have no use for one.
_NAMED = frozenset({"time", "group", "column"})


class RowSplit(Value):
    """``by`` what the rows are told apart.

    - ``random``: at random, of classes each its share; rows that repeat stay together.
    - ``group``: rows with the same value in ``column`` stay together.
    - ``time``: ``column`` orders the rows: the first train, the next validate, the last test.
    - ``column``: ``column`` says train, validation or test.
    - ``files``: the data set is the training rows; ``test`` and ``validation`` are files of their own.

    Random and group cut five folds that take turns as test rows, or with other fractions than the usual one split; the others
    make one. Where ``column`` or ``files`` name no validation rows these are cut from the training ones. The named column is no
    feature, unless it is listed under ``features``.
    """

    by: By = "random"
    column: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    validation: StoredFile | None = None
    test: StoredFile | None = None

    _clean_files = field_validator("validation", "test")(clean_file)
    _clean_name = field_validator("column")(clean_name)

    @property
    def takes_turns(self) -> bool:
        """Whether its rows can be cut into folds that take turns: in none of the others do all rows mean the same."""
        return self.by in ("random", "group")

    @model_validator(mode="after")
    def _what_it_needs(self) -> RowSplit:
        if self.by in _NAMED and self.column is None:
            raise SpecError(f"split by {self.by} needs the name of a column", code="field_required", pointer="/column")
        if self.by == "files" and self.test is None:
            raise SpecError("split by files needs the file of the test rows", code="field_required", pointer="/test")
        for name in ("column", "validation", "test"):
            if getattr(self, name) is not None and self.by not in (_NAMED if name == "column" else {"files"}):
                message = f"split by {self.by} has no {name}"
                raise SpecError(message, code="option_not_applicable", pointer=f"/{name}")
        return self


def read_split(text: str) -> dict[str, Any]:
    """``group:patient_id``, ``time:day``, ``column:part``, ``files:test.csv`` or ``random`` in long form. Raises SpecError."""
    by, _, rest = (part.strip() for part in text.partition(":"))
    ways = get_args(By)
    if by not in ways:
        hint = did_you_mean(by, ways) or "; write random, time:COLUMN, group:COLUMN, column:COLUMN or files:TEST_FILE"
        raise SpecError(f"unknown split {text[:80]!r}{hint}", code="unknown_value", pointer="/split")
    key = "column" if by in _NAMED else "test"
    return {"by": by, key: rest} if rest else {"by": by}


def proposal(by: By, column: str) -> str:
    """What to type for that split, on the command line and in a spec."""
    plain = re.fullmatch(r"[^\W\d][\w.-]*", column)
    quoted = column if plain else json.dumps(column, ensure_ascii=False)
    return f"--split {shlex.quote(f'{by}:{column}')}, in a spec split: {{by: {by}, column: {quoted}}}"


def check_split(split: RowSplit, *, table_file: bool) -> None:
    """Raises SpecError where only a table in a file can be split so: ``table_file`` is whether there is one."""
    if split.by != "random" and not table_file:
        message = f"split by {split.by} is for a table in a file; data of your own give their splits themselves"
        raise SpecError(message, code="option_not_applicable", pointer="/split/by")
