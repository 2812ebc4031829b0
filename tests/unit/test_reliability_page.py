"""The page on reliability names tests that exist, and has every row of the failure matrix and every figure."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
# Some numbers were never given out.
FAULTS = {f"F{n}" for n in range(1, 41)} - {"F2", "F10", "F15", "F17", "F24", "F26"}
FIGURES = {f"R{n}" for n in range(1, 14)}


@cache
def names_in(file: str) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in names_in(file)


def test_every_row_is_there_and_says_something() -> None:
    rows = dict(re.findall(r"^\| ([FR]\d+) \|(.+)\|$", PAGE, re.MULTILINE))
    assert set(rows) == FAULTS | FIGURES
    for number, row in rows.items():
        assert "::" in row or " run" in row or "benchmark" in row, number


def test_files_and_commands_that_are_named_exist() -> None:
    for path in re.findall(r"`((?:tests|benchmarks)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)", PAGE):
        assert f"\n{target}:" in makefile, target
