"""Verdict, intervals and snippet: claims hold at the stated rate, and what is printed runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, simulate, spec

from optim_core.recommend import recommend
from optim_core.recommend.evidence import Confirmed, Scores
from optim_core.recommend.snippet import make_snippet
from optim_core.recommend.stats import best_band, expected_best, further_seeds, mean_interval, probability_better
from optim_core.recommend.verdict import judge
from optim_core.schedules.shapes import multipliers
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Search
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.space import configuration_from, default_configuration


def scores(values: dict[str, np.ndarray], sign: int = -1) -> Scores:
    confirmed = [
        Confirmed(
            default_configuration(name),
            frozenset({"adamw_tuned", "adamw_default"} if name == "adamw" else {"rival"}),
            np.asarray(v, dtype=np.float64),
            0,
        )
        for name, v in values.items()
    ]
    return Scores(confirmed, list(range(len(next(iter(values.values()))))), sign)


def test_null_tasks_are_called_better_in_at_most_five_percent() -> None:
    rng, claims, studies = np.random.default_rng(0), 0, 400
    for _ in range(studies):
        shared = rng.standard_normal(5)
        values = {n: 1 + 0.2 * shared + 0.1 * rng.standard_normal(5) for n in ("adamw", "sgd", "lion", "adam")}
        claims += judge(scores(values), 0.0001, 0).verdict == "better"
    assert claims <= 0.05 * studies + 2 * (0.05 * 0.95 * studies) ** 0.5


@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_cover_the_truth_at_the_nominal_rate(n: int) -> None:
    rng, runs = np.random.default_rng(n), 400
    hits = 0
    for _ in range(runs):
        low, high = mean_interval(3 + rng.standard_normal(n), 0.05)
        hits += low <= 3 <= high
    assert hits >= (0.95 - 2 * (0.05 * 0.95 / runs) ** 0.5) * runs


def test_a_clear_and_large_gain_is_better() -> None:
    rng = np.random.default_rng(0)
    base = 1 + 0.05 * rng.standard_normal(5)
    judged = judge(scores({"adamw": base, "lion": base - 0.2 + 0.005 * rng.standard_normal(5)}), 0.01, 0)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("better", "lion")
    assert judged.gain_mean == pytest.approx(0.2, abs=0.01)
    assert judged.probability_better == 1.0


def test_a_gain_below_the_margin_is_no_difference_and_the_cheapest_is_recommended() -> None:
    base = np.array([1.0, 1.01, 0.99, 1.0, 1.005])
    wiggle = 0.0005 * np.array([1, -1, 1, -1, 0])
    judged = judge(scores({"adamw": base, "lion": base - 0.002 + wiggle, "sgd": base - 0.001 - wiggle}), 0.01, 0)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("no_difference", "sgd")
    assert {c.configuration.optimizer for c in judged.equivalent} == {"adamw", "lion"}


def test_a_noisy_gain_is_inconclusive_and_says_how_many_seeds_would_decide() -> None:
    judged = judge(scores({"adamw": np.ones(5), "lion": np.array([0.5, 1.3, 0.6, 1.2, 0.4])}), 0.01, 0)
    assert judged.verdict == "inconclusive"
    assert judged.recommended.configuration.optimizer == "adamw"
    assert judged.further_seeds is not None
    assert judged.further_seeds >= 1


def test_a_winning_adamw_is_no_difference() -> None:
    judged = judge(scores({"adamw": np.array([0.5, 0.6, 0.5]), "sgd": np.array([0.9, 1.0, 0.9])}), 0.01, 0)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("no_difference", "adamw")


def test_equal_values_on_every_seed_do_not_break_anything() -> None:
    judged = judge(scores({"adamw": np.full(5, 0.97), "sgd": np.full(5, 0.97)}, sign=1), 0.01, 0)
    assert judged.verdict == "no_difference"
    assert judged.probability_better == 0.5


def test_direction_of_the_metric_is_respected() -> None:
    values = {"adamw": np.array([0.8, 0.81, 0.79, 0.8, 0.8]), "sgd": np.array([0.9, 0.91, 0.89, 0.9, 0.905])}
    assert judge(scores(values, sign=1), 0.01, 0).verdict == "better"
    assert judge(scores(values, sign=-1), 0.01, 0).winner.configuration.optimizer == "adamw"


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_intervals_hold_the_mean_and_grow_with_confidence(values: list[float]) -> None:
    array = np.array(values)
    low, high = mean_interval(array, 0.05)
    wider = mean_interval(array, 0.01)
    slack = 1e-9 * (1 + np.abs(array).max())
    assert low - slack <= array.mean() <= high + slack
    assert wider[0] <= low + 1e-6 * (1 + abs(low))
    assert wider[1] >= high - 1e-6 * (1 + abs(high))
    assert 0 <= probability_better(array) <= 1
    assert 1 <= further_seeds(array, 0.1, 0.05) <= 1000


def test_expected_best_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal(30)
    drawn = np.array([rng.choice(sample, 5, replace=False).max() for _ in range(20_000)])
    assert expected_best(sample, 5) == pytest.approx(drawn.mean(), abs=0.02)
    assert expected_best(sample, 30) == pytest.approx(sample.max())
    low, high = best_band(sample, 5)
    assert low <= expected_best(sample, 5) <= high


def test_the_document_has_the_contract_and_survives_json() -> None:
    view, _ = simulate(spec(), bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 0.7)}))
    document = json.loads(json.dumps(recommend(view).document()))
    assert next(iter(document)) == "schema"
    assert document["schema"] == "whichopt.recommendation/1"
    assert set(document) == {
        "schema",
        "study",
        "basis",
        "verdict",
        "summary",
        "recommended",
        "metric",
        "score",
        "baselines",
        "effect",
        "equivalent",
        "league",
        "cost",
        "dataset",
        "engine",
        "snippet",
        "replay",
    }
    assert document["verdict"] == "better"
    assert set(document["baselines"]) == {"adamw_default", "adamw_tuned"}
    assert document["score"]["seeds"] == 5
    low, high = document["effect"]["ci95"]
    assert low <= document["effect"]["difference"] <= high < 0
    assert len(document["league"]) == len(OPTIMIZERS)
    assert document["cost"]["trials"] == 60 + 5 * 5
    assert Recommendation.model_validate_json(json.dumps(document)) == recommend(view)


PAIRS = [(o, s) for o, row in OPTIMIZERS.items() for s in row.schedules]


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
@pytest.mark.parametrize("rich", [False, True])
def test_the_snippet_runs_as_printed_and_follows_the_schedule(optimizer: str, schedule: str, rich: bool) -> None:
    point = {"schedule": schedule}
    if rich:
        point |= {"weight_decay": 0.02, "warmup_fraction": 0.1, "clip_norm": 1.0}
    configuration = configuration_from(optimizer, point, Search())
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    names = {"model": model, "total_steps": 40}
    exec(make_snippet(configuration), names)
    optimizer_, scheduler = names["optimizer"], names["scheduler"]
    expected = multipliers(configuration.schedule, 40) * configuration.hyperparameters["lr"]
    for t in range(40):
        rates = [group["lr"] for group in optimizer_.param_groups]
        assert rates == pytest.approx([float(expected[t])] * len(rates), rel=1e-5, abs=1e-12)
        optimizer_.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer_.step()
        if t < 39:
            scheduler.step()
    decays = {p.ndim: group["weight_decay"] for group in optimizer_.param_groups for p in group["params"]}
    assert decays[2] == pytest.approx(float(configuration.hyperparameters["weight_decay"]))
    assert not rich or decays[1] == 0
