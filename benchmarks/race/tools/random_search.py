"""Random search over the rivals' space, every run to the full horizon."""

from __future__ import annotations

from itertools import count

import numpy as np

from benchmarks.race.contest import Contest
from benchmarks.race.space import Drawn, source_of, suggest
from benchmarks.race.train import OutOfTime


def run(contest: Contest) -> None:
    """Until the time is over."""
    trial = Drawn(np.random.default_rng([contest.seed, 7]))
    try:
        for number in count():
            contest.trial(source_of(suggest(trial)), contest.seed * 100_000 + number)
    except OutOfTime:
        return
