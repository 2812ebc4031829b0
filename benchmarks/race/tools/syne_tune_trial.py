"""One trial of Syne Tune: a script, as its local backend wants it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from syne_tune import Reporter  # pyright: ignore[reportMissingImports]
from syne_tune.constants import ST_CONFIG_JSON_FNAME_ARG  # pyright: ignore[reportMissingImports]

from benchmarks.race.contest import Contest
from benchmarks.race.space import source_of
from benchmarks.race.tools.syne_tune_asha import CONTEST, LOOK, METRIC
from benchmarks.race.train import OutOfTime, train


def main(arguments: list[str]) -> None:
    """Train and report ten times; each report is offered as an answer."""
    point = json.loads(Path(arguments[arguments.index(f"--{ST_CONFIG_JSON_FNAME_ARG}") + 1]).read_text())
    contest = Contest.read(os.environ[CONTEST])
    source, report, seen = source_of(point), Reporter(), 0

    def look(step: int, value: float) -> None:
        nonlocal seen
        seen += 1
        contest.offer(source, value)
        report(**{LOOK: seen, METRIC: value if value == value else contest.task.worst})

    try:
        train(contest.task, source, contest.seed, look=look, until=contest.until)
    except OutOfTime:
        return


if __name__ == "__main__":
    main(sys.argv)
