"""Ray Tune with its ASHA scheduler and its Optuna search, one actor a core."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

from benchmarks.race.contest import Contest
from benchmarks.race.space import source_of, suggest
from benchmarks.race.train import LOOKS, OutOfTime, train


def run(contest: Contest) -> None:
    """Until the time is over; trials report ten times, the first rung is after one of them."""
    # Read when Ray is imported.
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    }
    import ray  # pyright: ignore[reportMissingImports]
    from ray import tune  # pyright: ignore[reportMissingImports]
    from ray.tune.schedulers import ASHAScheduler  # pyright: ignore[reportMissingImports]
    from ray.tune.search.optuna import OptunaSearch  # pyright: ignore[reportMissingImports]

    one = contest.alone()
    mode = "max" if one.task.maximised else "min"
    ray.init(num_cpus=contest.cores, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_parameters(_trial, text=one.text),
        tune_config=tune.TuneConfig(
            metric="value", mode=mode, num_samples=-1, time_budget_s=max(contest.left, 0.1), reuse_actors=True,
            search_alg=OptunaSearch(space=_space, metric="value", mode=mode, seed=contest.seed),
            scheduler=ASHAScheduler(max_t=LOOKS, grace_period=1),
        ),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )  # fmt: skip
    tuner.fit()
    ray.shutdown()


def _space(trial: Any) -> None:
    suggest(trial)


def _trial(config: dict[str, Any], text: str) -> None:
    from ray import tune  # pyright: ignore[reportMissingImports]

    contest = Contest.read(text)
    source = source_of(config)

    def look(step: int, value: float) -> None:
        contest.offer(source, value)
        tune.report({"value": value if value == value else contest.task.worst})

    try:
        train(contest.task, source, contest.seed, look=look, until=contest.until)
    except OutOfTime:
        return
