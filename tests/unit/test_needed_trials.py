"""As many trials as the price says are enough: of studies whose truth is known nearly all come to a claim."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from benchmarks.evidence_play import play
from optim_core.recommend import recommend
from optim_core.recommend.external import external_report
from optim_core.search.portfolio import AROUND, GRID
from optim_core.spec.price import BASELINE_TRIALS, RIVAL_TRIALS, needed_trials, price
from optim_core.spec.space import default_configuration
from optim_core.spec.trial import WORST_VALUE, StudyView, TrialResult, UnitResult, UnitSpec
from optim_core.spec.validation import parse_spec

# Decades by which the best learning rate of a method is off its default, one standard deviation.
OFF, NOISE = 0.6, 0.02


def document(optimizers: list[str], trials: int, seed: int) -> dict[str, Any]:
    return {
        "model": {"kind": "external", "steps": 100}, "metric": "val", "metric_direction": "min", "seed": seed,
        "search": {"optimizers": optimizers}, "budget": {"trials": trials},
    }  # fmt: skip


def lacks_search(optimizers: list[str], trials: int, seed: int) -> bool:
    """Whether a study ends without a verdict because it was not searched enough."""
    draw = random.Random(seed)
    best = {
        name: math.log10(float(default_configuration(name).hyperparameters["lr"])) + draw.gauss(0, OFF)
        for name in optimizers
    }

    def answer(unit: UnitSpec) -> UnitResult:
        results = []
        for trial in unit.trials:
            rate = math.log10(float(trial.configuration.hyperparameters["lr"])) - best[trial.configuration.optimizer]
            luck = float(np.random.default_rng([trial.seed, seed]).normal())
            value = None if rate > 1.5 else 1 + 0.15 * min(rate**2, 4) + NOISE * luck
            results.append(
                TrialResult(
                    number=trial.number, objective=WORST_VALUE if value is None else value, metric=value, loss=value,
                    diverged_at_step=None if value is not None else 3, steps=unit.horizon, curve=[],
                )
            )  # fmt: skip
        steps = unit.horizon * len(results)
        return UnitResult(trials=results, seconds=1.0, train_steps=steps, device="external", engine="external")

    spec = parse_spec(document(optimizers, trials, seed))
    report = external_report(StudyView(study_id="s", spec=spec, units=[], elapsed_s=0, device_s=0))
    assert report is not None
    return "No verdict on other optimizers" in recommend(play(spec, report, answer)).summary


def test_as_many_trials_as_are_said_to_be_needed_nearly_always_are_enough() -> None:
    for optimizers in (["adamw", "sgd"], ["adamw", "sgd", "lion"]):
        needed = needed_trials(parse_spec(document(optimizers, 1, 0)))
        assert sum(lacks_search(optimizers, needed, seed) for seed in range(20)) <= 3
    # Without what lies beyond the edges it is a matter of luck.
    assert sum(lacks_search(["adamw", "sgd"], 13, seed) for seed in range(8)) >= 4


def test_who_makes_a_study_hears_at_once_that_its_trials_are_too_few() -> None:
    for trials, said in (
        (1, ". Too few for a verdict, which needs about 25"),
        (25, "; a verdict needs about 25 trials"),
    ):
        asked = price(parse_spec(document(["adamw", "sgd"], trials, 0)))
        assert asked is not None
        assert said in asked.sentence
        assert asked.enough == (trials >= 25)


def test_what_is_counted_is_what_the_search_begins_with() -> None:
    assert len(GRID) == BASELINE_TRIALS
    # One more of a rival's own: its default.
    assert len(AROUND) + 1 == RIVAL_TRIALS
