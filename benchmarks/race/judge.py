"""The neutral judge: each answer trained again in plain torch on fresh seeds, and scored on rows that no tool has seen.

``python -m benchmarks.race.judge FOLDER SEEDS`` reads a JSON list of sources from standard input and prints a JSON list of
scores a source.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch

from benchmarks.race.train import Task, load, train

# Far from the seeds that tools use.
FIRST_SEED = 2_000_000_000


def judge(task: Task, source: str, seeds: int) -> list[float]:
    """One score a seed; a run that diverged counts as the best constant answer."""
    scores = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        value = train(task, source, seed, split="judge")
        scores.append(task.worst if math.isnan(value) else value)
    return scores


def main(folder: str, seeds: str) -> None:
    """See the module."""
    torch.set_num_threads(1)
    task = load(Path(folder))
    json.dump([judge(task, source, int(seeds)) for source in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
