"""Syne Tune with ASHA, its draws random or from BORE, in its local backend: a process a trial, one a core at a time."""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.race.contest import Contest
from benchmarks.race.space import CHOICES, NUMBERS
from benchmarks.race.train import LOOKS

METRIC, LOOK, CONTEST = "value", "look", "RACE_CONTEST"


def run(contest: Contest, form: str) -> None:
    """``form``: ``asha`` or ``bore``. The space is flat, as its documentation says: each trial has every number."""
    one = contest.alone()
    # Where Syne Tune writes what it does, and what its trials read.
    os.environ |= {"SYNETUNE_FOLDER": tempfile.mkdtemp(), CONTEST: one.text}
    from syne_tune import StoppingCriterion, Tuner  # pyright: ignore[reportMissingImports]
    from syne_tune.backend import LocalBackend  # pyright: ignore[reportMissingImports]
    from syne_tune.config_space import choice, loguniform, uniform  # pyright: ignore[reportMissingImports]
    from syne_tune.optimizer.baselines import ASHA, ASHABORE  # pyright: ignore[reportMissingImports]

    logging.getLogger().setLevel(logging.ERROR)
    space = {name: choice(values) for name, values in CHOICES.items()}
    space |= {name: (loguniform if row.log else uniform)(row.low, row.high) for name, row in NUMBERS.items()}
    scheduler = (ASHABORE if form == "bore" else ASHA)(
        config_space=space, metric=METRIC, time_attr=LOOK, max_t=LOOKS, do_minimize=not one.task.maximised,
        random_seed=contest.seed,
    )  # fmt: skip
    Tuner(
        trial_backend=LocalBackend(
            entry_point=str(Path(__file__).with_name("syne_tune_trial.py")), binary=sys.executable, pass_args_as_json=True
        ),
        scheduler=scheduler, n_workers=contest.cores, sleep_time=0.1, print_update_interval=math.inf, save_tuner=False,
        stop_criterion=StoppingCriterion(max_wallclock_time=max(contest.left, 0.1)),
    ).run()  # fmt: skip
