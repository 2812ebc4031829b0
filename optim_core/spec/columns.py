"""What is told of the columns of a table, whoever looked at them: plain values, which become JSON as they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnInfo:
    """A column of a table. ``role``: number, flag, date, category, text, or ``left out``; ``done``: what becomes of it, or why
    it is left out; ``missing``: rows without a value; ``features``: numbers that the model sees of it.
    """

    name: str
    role: str
    done: str
    missing: int
    features: int


@dataclass(frozen=True)
class Glance:
    """A column at a glance. ``role``: as of ``ColumnInfo``, or ``target``, or of an npz ``array``; ``missing``: rows without a
    value; ``least``, ``middle`` (the median) and ``most``: of numbers, dates and times; ``examples``: the first rows as read.
    """

    name: str
    role: str
    missing: int
    least: float | str | None
    middle: float | str | None
    most: float | str | None
    examples: list[str]
