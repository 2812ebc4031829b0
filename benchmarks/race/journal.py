"""What has been done already: one JSON line a run and a line a judged answer, so that an interrupted race goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ANSWERS, SCORES = "answers.jsonl", "scores.jsonl"


@dataclass(frozen=True)
class Entry:
    """One run of a tool: ``seconds`` of wall-clock on ``cores`` cores; ``repeat`` is the seed of split and search."""

    workload: str
    tool: str
    seconds: float
    cores: int
    repeat: int

    @property
    def fields(self) -> dict[str, Any]:
        return asdict(self)


def add(path: Path, row: dict[str, Any]) -> None:
    """Append a line, after the rest of one that was cut off by a kill."""
    with path.open("a+b") as file:
        whole = file.tell() == 0 or path.read_bytes().endswith(b"\n")
        file.write(b"" if whole else b"\n")
        file.write(json.dumps(row).encode() + b"\n")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Every line that is whole; a line cut off by a kill is left out."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def entries(work: Path) -> set[Entry]:
    """The runs that need not run again."""
    names = Entry.__dataclass_fields__
    return {Entry(**{name: row[name] for name in names}) for row in rows(work / ANSWERS)}


def scores(work: Path, seeds: int = 1) -> dict[tuple[str, str], list[float]]:
    """(folder of the workload, source) → scores on fresh seeds, where there are at least ``seeds``."""
    found = {}
    for row in rows(work / SCORES):
        if len(row["scores"]) >= seeds:
            found[row["folder"], row["source"]] = row["scores"]
    return found


def folder_name(workload: str, repeat: int) -> str:
    """Of a workload's files, inside ``data``."""
    return f"{workload}-{repeat}"


def unjudged(work: Path, workload: str, repeat: int, seeds: int) -> list[str]:
    """The different answers on a workload that have no scores yet."""
    folder, known = folder_name(workload, repeat), scores(work, seeds)
    sources = [row["source"] for row in rows(work / ANSWERS) if row["workload"] == workload and row["repeat"] == repeat]
    return [source for source in dict.fromkeys(sources) if (folder, source) not in known]
