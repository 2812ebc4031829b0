"""Verdict, intervals and snippet: claims hold at the stated rate, and what is printed runs."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, simulate, spec

from optim_core.recommend import recommend
from optim_core.recommend.evidence import Confirmed, Scores
from optim_core.recommend.snippet import make_snippet
from optim_core.recommend.stats import best_band, expected_best, further_seeds, mean_interval, probability_better
from optim_core.recommend.verdict import judge
from optim_core.schedules import plateau
from optim_core.schedules.shapes import multipliers
from optim_core.spec.optimizers import OPTIMIZERS
from optim_core.spec.problem import Search
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.schedules import SCHEDULES, ScheduleParameter, complete_schedule
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.techniques import TECHNIQUES
from optim_core.spec.trial import Configuration


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
        claims += judge(scores(values), 0.0001).verdict == "better"
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
    judged = judge(scores({"adamw": base, "lion": base - 0.2 + 0.005 * rng.standard_normal(5)}), 0.01)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("better", "lion")
    assert judged.gain_mean == pytest.approx(0.2, abs=0.01)
    assert judged.probability_better == 1.0


def test_a_gain_below_the_margin_is_no_difference_and_the_cheapest_is_recommended() -> None:
    base = np.array([1.0, 1.01, 0.99, 1.0, 1.005])
    wiggle = 0.0005 * np.array([1, -1, 1, -1, 0])
    judged = judge(scores({"adamw": base, "lion": base - 0.002 + wiggle, "sgd": base - 0.001 - wiggle}), 0.01)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("no_difference", "sgd")
    assert {c.configuration.optimizer for c in judged.equivalent} == {"adamw", "lion"}


def test_a_noisy_gain_is_inconclusive_and_says_how_many_seeds_would_decide() -> None:
    judged = judge(scores({"adamw": np.ones(5), "lion": np.array([0.5, 1.3, 0.6, 1.2, 0.4])}), 0.01)
    assert judged.verdict == "inconclusive"
    assert judged.recommended.configuration.optimizer == "adamw"
    assert judged.further_seeds is not None
    assert judged.further_seeds >= 1


def test_a_winning_adamw_is_no_difference() -> None:
    judged = judge(scores({"adamw": np.array([0.5, 0.6, 0.5]), "sgd": np.array([0.9, 1.0, 0.9])}), 0.01)
    assert (judged.verdict, judged.recommended.configuration.optimizer) == ("no_difference", "adamw")


def test_equal_values_on_every_seed_do_not_break_anything() -> None:
    judged = judge(scores({"adamw": np.full(5, 0.97), "sgd": np.full(5, 0.97)}, sign=1), 0.01)
    assert judged.verdict == "no_difference"
    assert judged.probability_better == 0.5


def test_direction_of_the_metric_is_respected() -> None:
    values = {"adamw": np.array([0.8, 0.81, 0.79, 0.8, 0.8]), "sgd": np.array([0.9, 0.91, 0.89, 0.9, 0.905])}
    assert judge(scores(values, sign=1), 0.01).verdict == "better"
    assert judge(scores(values, sign=-1), 0.01).winner.configuration.optimizer == "adamw"


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
    assert len(document["league"]) == len(Search().included())
    assert document["cost"]["trials"] == 60 + 5 * 5
    assert Recommendation.model_validate_json(json.dumps(document)) == recommend(view)


# What a stateful schedule needs besides steps is tried below.
METHODS = [o for o, row in OPTIMIZERS.items() if row.kind == "gradient"] + ["lookahead(momentum)", "sam(muon)"]
PAIRS = [(o, s) for o in METHODS for s in OPTIMIZERS[o].schedules if not SCHEDULES[s].stateful]


def descend(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = (model(torch.ones(1, 3)) - 2).square().sum()
    loss.backward()
    return loss


@pytest.mark.parametrize("name", [o for o, row in OPTIMIZERS.items() if row.kind != "gradient"])
def test_the_snippet_of_a_minimizer_runs_as_printed(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    names: dict = {"model": model, "total_steps": 40}
    source = make_snippet(default_configuration(name))
    exec(source, names)
    assert "optimizer.step(closure)" in source
    before = float(descend(model, names["optimizer"]).detach())
    for _ in range(3):
        names["optimizer"].step(partial(descend, model, names["optimizer"]))
    assert float(descend(model, names["optimizer"]).detach()) < 0.9 * before


def test_the_snippet_carries_the_techniques() -> None:
    techniques = {name: [row.choices[-1]] for name, row in TECHNIQUES.items() if name != "swa"}
    configuration = configuration_from("adamw", {}, Search(techniques=techniques))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    names: dict = {"model": model, "total_steps": 40}
    source = make_snippet(configuration)
    exec(source, names)
    optimizer = names["optimizer"]
    assert all(f'"{name}"' in source or name in ("clip_norm", "label_smoothing", "dropout") for name in techniques)
    assert "clip_grad_norm_(model.parameters(), 3" in source
    assert "label_smoothing=0.2" in source
    assert "torch.nn.Dropout(0.3)" in source
    assert "optimizer.eval()" in source
    rates = sorted({round(group["lr"], 6) for group in optimizer.param_groups})
    assert rates == pytest.approx([0.9e-3, 1e-2])
    optimizer.step(partial(descend, model, optimizer))
    before = model[0].weight.detach().clone()
    optimizer.eval()
    optimizer.train()
    assert torch.equal(before, model[0].weight)
    late = make_snippet(configuration_from("adamw", {}, Search(techniques={"swa": [0.75]})))
    assert '"swa": round(0.75 * total_steps)' in late


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
@pytest.mark.parametrize("rich", [False, True])
def test_the_snippet_runs_as_printed_and_follows_the_schedule(optimizer: str, schedule: str, rich: bool) -> None:
    point = {"schedule": schedule}
    search = Search(techniques={"clip_norm": [1.0]} if rich else {})
    if rich:
        point |= {"weight_decay": 0.02, "warmup_fraction": 0.1}
    configuration = configuration_from(optimizer, point, search)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    names = {"model": model, "total_steps": 40}
    exec(make_snippet(configuration), names)
    optimizer_, scheduler = names["optimizer"], names["scheduler"]
    expected = multipliers(configuration.schedule, 40) * configuration.hyperparameters["lr"]
    for t in range(40):
        rates = [group["lr"] for group in optimizer_.param_groups]
        assert rates == pytest.approx([float(expected[t])] * len(rates), rel=1e-5, abs=1e-12)
        optimizer_.step(partial(descend, model, optimizer_))
        if t < 39:
            scheduler.step()
    decays = {p.ndim: group["weight_decay"] for group in optimizer_.param_groups for p in group["params"]}
    assert decays[2] == pytest.approx(float(configuration.hyperparameters["weight_decay"]))
    assert not rich or decays[1] == 0


LR, EVERY = 0.2, 3


def follow_snippet(schedule: dict[str, str | float], total: int) -> tuple[str, list[float]]:
    """The snippet for momentum with ``schedule``, and the learning rate of each step when it runs.

    After every third step comes an evaluation, whose loss stops improving after the second one.
    """
    hyperparameters = {**OPTIMIZERS["momentum"].defaults(), "lr": LR}
    source = make_snippet(Configuration(optimizer="momentum", hyperparameters=hyperparameters, schedule=schedule))
    model = torch.nn.Linear(3, 2)
    names = {"model": model, "total_steps": total}
    exec(source, names)
    optimizer, scheduler, seen = names["optimizer"], names["scheduler"], []
    untouched = [{k: v for k, v in g.items() if k in ("momentum", "dampening")} for g in optimizer.param_groups]
    for t in range(total):
        rates = {group["lr"] for group in optimizer.param_groups}
        assert len(rates) == 1
        seen.append(rates.pop())
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        if t == total - 1:
            break
        if not SCHEDULES[str(schedule["name"])].stateful:
            scheduler.step()
            continue
        if "warmup_scheduler" in names:
            names["warmup_scheduler"].step()
        if (t + 1) % EVERY == 0:
            scheduler.step(1.0 / min(t + 1, 2 * EVERY))
    assert [{k: g[k] for k in ("momentum", "dampening")} for g in optimizer.param_groups] == untouched
    return source, seen


def promised(schedule: dict[str, str | float], total: int) -> list[float]:
    """The learning rates that the engine gives, with the same evaluations as ``follow_snippet``."""
    values, state, factors = multipliers(schedule, total).tolist(), plateau.init(1), []
    for t in range(total):
        factors.append(float(state["factor"]))
        if SCHEDULES[str(schedule["name"])].stateful and (t + 1) % EVERY == 0:
            loss = torch.tensor([1.0 / min(t + 1, 2 * EVERY)], dtype=torch.float64)
            p = {key: float(schedule[key]) for key in ("gamma", "patience", "cooldown", "threshold")}
            state = plateau.observe(state, loss, **p)
    return [LR * value * factor for value, factor in zip(values, factors, strict=True)]


# torch's class where its rates are the same; whatever is not here, or has a warm-up or an end, is written out.
TORCH_CLASS = {
    "cosine": "CosineAnnealingLR",
    "linear": "LinearLR",
    "polynomial": "PolynomialLR",
    "step": "StepLR",
    "multistep": "MultiStepLR",
    "exponential": "ExponentialLR",
    "triangular": "CyclicLR",
    "triangular2": "CyclicLR",
    "exp_range": "CyclicLR",
    "one_cycle": "OneCycleLR",
    "reduce_on_plateau": "ReduceLROnPlateau",
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 7, 40])
def test_every_schedule_at_its_defaults_prints_code_that_gives_its_rates(name: str, total: int) -> None:
    schedule = complete_schedule({"name": name})
    source, seen = follow_snippet(schedule, total)
    assert seen == pytest.approx(promised(schedule, total), rel=1e-9, abs=1e-13)
    assert f"lr_scheduler.{TORCH_CLASS.get(name, 'LambdaLR')}(" in source
    assert ("scheduler.step(validation_loss)" in source) == SCHEDULES[name].stateful


def other(row: ScheduleParameter) -> float:
    """An allowed value that is not the default."""
    if row.whole:
        return row.default + 1 if row.default + 1 <= row.high else row.low
    # Not a round number, for it must be printed to the last digit.
    return row.low + (row.default - row.low) / 3 if row.default > row.low else row.low + (row.high - row.low) / 3


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 7, 40])
def test_every_schedule_with_other_parameters_prints_code_that_gives_its_rates(name: str, total: int) -> None:
    changed = {row.name: other(row) for row in SCHEDULES[name].parameters}
    schedule = complete_schedule({"name": name, **changed})
    _, seen = follow_snippet(schedule, total)
    assert seen == pytest.approx(promised(schedule, total), rel=1e-9, abs=1e-13)
    if total == 40 and changed:
        assert seen != pytest.approx(promised(complete_schedule({"name": name}), total), rel=1e-3)


@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SCHEDULES)), total=st.integers(1, 60))
def test_any_parameters_print_code_that_gives_their_rates(data: st.DataObject, name: str, total: int) -> None:
    schedule: dict[str, str | float] = {"name": name}
    for row in SCHEDULES[name].parameters:
        spread = (
            st.integers(int(row.low), int(min(row.high, 9))).map(float) if row.whole else st.floats(row.low, row.high)
        )
        choices = st.sampled_from((row.default, row.low, row.high if row.high <= 1 else row.default, *row.choices))
        schedule[row.name] = data.draw(choices | spread, label=row.name)
    # A rise of exactly one step divides by zero in torch.
    assume(float(schedule.get("pct_start", 0.0)) * total != 1)
    _, seen = follow_snippet(complete_schedule(schedule), total)
    assert seen == pytest.approx(promised(complete_schedule(schedule), total), rel=1e-9, abs=1e-12)
