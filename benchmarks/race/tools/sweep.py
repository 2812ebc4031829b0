"""By hand: AdamW with a cosine schedule at nine learning rates, again with other seeds while there is time; the best mean."""

from __future__ import annotations

from itertools import count

from benchmarks.race.contest import Contest
from benchmarks.race.train import OutOfTime, train

# From the usual one outwards, two a decade.
RATES = (1e-3, 3e-3, 1e-2, 3e-4, 3e-2, 1e-4, 1e-1, 3e-5, 3e-1)


def run(contest: Contest) -> None:
    """A full sweep, then repetitions of all nine; after each run the rate with the best mean so far is the answer."""
    found: dict[float, list[float]] = {rate: [] for rate in RATES}
    task = contest.task
    try:
        for seed in count(contest.seed * 1000):
            for rate in RATES:
                value = train(task, source(rate), seed, until=contest.until)
                found[rate].append(task.worst if value != value else value)
                means = {rate: sum(values) / len(values) for rate, values in found.items() if values}
                best = (max if task.maximised else min)(means, key=means.__getitem__)
                contest.replace(source(best), means[best])
    except OutOfTime:
        return


def source(rate: float) -> str:
    """AdamW with its default betas and weight decay, falling to 0 along a cosine."""
    return (
        f"import torch\n\noptimizer = torch.optim.AdamW(model.parameters(), lr={rate!r}, fused=True)\n"
        "scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)\n"
    )
