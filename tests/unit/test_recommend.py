"""The verdict and the document: claims need enough search, name only what was tried, and never contradict themselves."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, simulate, spec

from optim_core.recommend import recommend, wording
from optim_core.recommend.enough import Tried, best_rate, distinct, tried
from optim_core.recommend.evidence import Confirmed, Evidence, evidence
from optim_core.recommend.further import Decider
from optim_core.recommend.history import outcomes
from optim_core.recommend.margin import margin_of
from optim_core.recommend.tuning import best_band, expected_best
from optim_core.recommend.verdict import judge, more_runs_may_decide
from optim_core.spec.problem import Search
from optim_core.spec.recommendation import Decide, Recommendation
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView

FEW = {"optimizers": ["adamw", "sgd", "lion"]}
FOLDS, ROWS = 5, 60


def found(levels: dict[str, float], noise: float = 0.0, metric: str = "loss", **changes) -> Evidence:
    """Confirmed configurations whose rows lie around ``levels``; ``default`` is AdamW's, ``adamw`` the tuned one."""
    confirmed = []
    for place, (name, level) in enumerate(levels.items()):
        rng = np.random.default_rng(place)
        folds = [level + noise * rng.standard_normal((2, 2, ROWS)) for _ in range(FOLDS)]
        if metric == "accuracy":
            folds = [(rng.random((2, 2, ROWS)) < level).astype(float) for _ in range(FOLDS)]
        optimizer = "adamw" if name == "default" else name
        roles = {"default": {"adamw_default"}, "adamw": {"adamw_tuned"}}.get(name, {"rival"})
        point = {} if name == "default" else {"lr": 0.01}
        configuration = configuration_from(optimizer, point, Search(optimizers=["adamw", "sgd", "lion", "muon"]))
        confirmed.append(Confirmed(configuration, frozenset(roles), folds, np.full(10, level), 0))  # type: ignore[arg-type]
    values = {
        "metric": metric, "called": metric, "confirmed": confirmed, "seeds": [1, 2], "fold_n": FOLDS, "look": 0, "whole": True,
        "targets": None, "train_rows": None, "rows": FOLDS * ROWS, "trivial": None,
    }  # fmt: skip
    return Evidence(**{**values, **changes})


def row(name: str, **changes) -> Tried:
    usual = Tried(name, trials=20, full=5, rates=9, decades=3.0, edge=None, plateau=False, lacks=None)
    return replace(usual, **changes)


def all_tried(*names: str, **changes: Tried) -> dict[str, Tried]:
    return {name: changes.get(name, row(name)) for name in ("adamw", *names)}


# -- the verdict -----------------------------------------------------------------------------------------------------------


def test_a_clear_and_large_gain_is_better() -> None:
    judged = judge(found({"default": 1.2, "adamw": 1.0, "lion": 0.8}, 0.05), all_tried("lion"), spec())
    assert (judged.verdict, judged.recommended.optimizer) == ("better", "lion")
    assert judged.effect.mean == pytest.approx(0.2, abs=0.02)
    assert judged.gain.mean == pytest.approx(0.4, abs=0.02)


def test_a_gain_below_the_margin_is_no_difference_and_tuned_adamw_stays() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "sgd": 0.999, "lion": 1.001}, 0.002)
    judged = judge(evidence_, all_tried("sgd", "lion"), spec())
    assert (judged.verdict, judged.recommended) == ("no_difference", judged.tuned)
    assert [one.optimizer for one, _ in judged.equivalent] == ["sgd", "lion"]
    cheap = judge(evidence_, all_tried("sgd", "lion"), spec(prefer="cheapest"))
    assert cheap.recommended.optimizer == "sgd"


def test_without_enough_search_nothing_is_claimed() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 0.8}, 0.05)
    untuned = judge(evidence_, all_tried("lion", adamw=row("adamw", lacks="only 2 learning rates")), spec())
    fewer = judge(evidence_, all_tried("lion", lion=row("lion", full=6)), spec())
    for judged in (untuned, fewer):
        assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
        assert judged.recommended is judged.tuned


@pytest.mark.parametrize("metric", ["rmse", "accuracy"])
def test_growth_is_what_the_second_half_of_a_search_is_expected_to_bring(metric: str) -> None:
    values = [0.9, 0.5, 0.7, 0.6]
    sign = -1.0 if metric == "accuracy" else 1.0
    view, _ = simulate(spec(search=FEW), bowl({"adamw": (0.003, 1.0)}))
    outcome = outcomes(view, "train")[0]
    full = [
        replace(outcome, result=outcome.result.model_copy(update={"number": i, "metric": v, "objective": sign * v,
                                                                   "diverged_at_step": None}))
        for i, v in enumerate(values)
    ]  # fmt: skip
    top = outcome.rung
    # Of the six pairs out of four: best of each, on average, against the best of all.
    best = max if metric == "accuracy" else min
    pairs = [best(values[i], values[j]) for i in range(4) for j in range(i)]
    found_ = tried(full, outcome.optimizer, top)
    assert found_.growth == pytest.approx(abs(best(values) - sum(pairs) / 6))
    assert tried(full[:1], outcome.optimizer, top).growth == math.inf


def test_adamw_is_not_said_to_win_against_what_was_not_tried() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 1.3}, 0.05)
    lacking = row("lion", lacks="only 1 of 3 learning rates")
    judged = judge(evidence_, all_tried("lion", lion=lacking), spec())
    assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
    two = found({"default": 1.2, "adamw": 1.0, "lion": 1.3, "sgd": 1.2}, 0.05)
    judged = judge(two, all_tried("lion", "sgd", lion=lacking), spec())
    assert judged.verdict == "no_difference"
    said = wording.summary(judged, two, all_tried("lion", "sgd", lion=lacking), None)
    assert "SGD was compared" in said
    assert "Lion" not in said
    assert any("Lion" in note for note in wording.notes(judged, two, all_tried("lion", "sgd", lion=lacking), None, 5.0))


def test_a_noisy_gain_is_inconclusive_and_says_what_would_decide() -> None:
    judged = judge(found({"default": 1.2, "adamw": 1.0, "lion": 0.9}, 1.0), all_tried("lion"), spec())
    assert (judged.verdict, judged.reason) == ("inconclusive", "noise")
    assert judged.recommended is judged.tuned
    assert judged.decider is not None
    assert judged.decider.seeds or judged.decider.rows


def constant(level: float, noise: float = 0.0) -> list[np.ndarray]:
    """Row scores of one answer for every row: the same for all seeds."""
    rng = np.random.default_rng(9)
    return [np.broadcast_to(level + noise * rng.standard_normal(ROWS), (2, 2, ROWS)) for _ in range(FOLDS)]


def test_what_is_learnt_is_shown_row_by_row_on_the_same_rows() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 1.0}, 0.05, trivial=constant(1.1, 0.05))
    judged = judge(evidence_, all_tried("lion"), spec())
    assert judged.learnt == "shown"
    assert judged.trivial == pytest.approx(1.1, abs=0.02)
    assert "learnt" not in wording.headline(judged, all_tried("lion"))


def test_nothing_is_learnt_only_where_that_is_shown() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 1.0}, 0.05, trivial=constant(0.9, 0.05))
    judged = judge(evidence_, all_tried("lion"), spec())
    assert judged.learnt == "no"
    assert judged.recommended is judged.tuned
    assert wording.headline(judged, all_tried("lion")).startswith("Nothing is learnt here")
    said = wording.summary(judged, evidence_, all_tried("lion"), None)
    assert said.startswith(
        f"Always answering the mean has loss {judged.trivial:.4g}, AdamW at its best {judged.effect.rival:.4g}"
    )


@pytest.mark.parametrize(
    ("lacks", "why"), [(None, "these rows do not show"), ("only 2 learning rates", "too little was tried")]
)
def test_what_rows_or_trials_cannot_show_is_left_open(lacks: str | None, why: str) -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 1.0}, 2.0, trivial=constant(1.05, 2.0))
    rows = all_tried("lion", adamw=row("adamw", lacks=lacks))
    judged = judge(evidence_, rows, spec())
    assert judged.learnt == "open"
    assert judged.recommended is judged.tuned
    assert why in wording.headline(judged, rows)
    notes = wording.notes(judged, evidence_, rows, 0.2, 5.0)
    assert any("not shown to beat always answering the most frequent class" in note for note in notes)


def test_more_rows_than_anybody_collects_are_no_advice() -> None:
    judged = judge(found({"default": 1.2, "adamw": 1.0, "lion": 0.985}, 3.0), all_tried("lion"), spec())
    assert (judged.verdict, judged.reason) == ("inconclusive", "noise")
    assert judged.decider == Decider(None, None)
    said = wording._decided_by(Decide(), "row")
    assert "any reasonable number" in said


def test_a_run_that_saw_less_than_its_rows_is_said() -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 0.8}, 0.05)
    judged = judge(evidence_, all_tried("lion"), spec())
    assert any(
        "saw 53 % of its training rows" in n for n in wording.notes(judged, evidence_, all_tried("lion"), None, 0.53)
    )
    assert not any("training rows" in n for n in wording.notes(judged, evidence_, all_tried("lion"), None, 1.0))


def test_the_answer_says_what_was_trained() -> None:
    view, _ = simulate(spec(budget={"trials": 20}), bowl({"adamw": (0.003, 1.0)}))
    trained = recommend(view).trained
    assert trained is not None
    assert (trained.steps, trained.batch_size, trained.epochs, trained.rows, trained.parameters) == (
        400,
        32,
        20,
        60,
        100,
    )
    assert trained.sentence.startswith("400 steps of 32 rows, 20 epochs of 60 rows; 100 weights")
    assert "0.53 epochs of" in wording.trained(2000, 32, 0.533, 120_000, 9, "Linear 8→1")


def test_a_search_ended_early_is_no_small_budget() -> None:
    alone = found({"default": 1.2, "adamw": 1.0}, 0.05)
    rows = all_tried("lion", lion=row("lion", lacks="not tried", trials=0))
    judged = judge(alone, rows, spec())
    assert "too small to confirm one" in wording.summary(judged, alone, rows, None)
    assert "the search was ended early" in wording.summary(judged, alone, rows, None, early=True)


@pytest.mark.parametrize("each", ["row", "sample", "block"])
def test_what_is_scored_has_its_name(each: str) -> None:
    evidence_ = found({"default": 1.2, "adamw": 1.0, "lion": 0.9}, 1.0, each=each, trivial=constant(1.1))
    rows = all_tried("lion")
    judged = judge(evidence_, rows, spec())
    said = [wording.headline(judged, rows), wording.summary(judged, evidence_, rows, None)]
    said += wording.notes(judged, evidence_, rows, None, 0.5)
    assert f"300 {each}s" in " ".join(said)
    assert each == "row" or not any(" row" in one for one in said), said
    assert (
        wording.trained(5, 2, 1.0, 10, 3, "Net", each) == f"5 steps of 2 {each}s, 1 epoch of 10 {each}s; 3 weights: Net"
    )


def test_direction_of_the_metric_is_respected() -> None:
    shares = found({"default": 0.5, "adamw": 0.7, "lion": 0.95}, metric="accuracy")
    judged = judge(shares, all_tried("lion"), spec(metric=None))
    assert judged.verdict == "better"
    assert judged.effect.mean > 0
    assert "+0." in wording.summary(judged, shares, all_tried("lion"), None)


def test_short_confirmations_claim_nothing() -> None:
    short = found({"default": 1.2, "adamw": 1.0, "lion": 0.8}, 0.05, whole=False)
    judged = judge(short, all_tried("lion"), spec())
    assert (judged.verdict, judged.reason) == ("inconclusive", "not_enough_search")
    assert "did not allow a whole confirmation" in wording.summary(judged, short, all_tried("lion"), None)


def test_equal_outputs_do_not_break_anything() -> None:
    judged = judge(found({"default": 1.0, "adamw": 1.0, "sgd": 1.0}), all_tried("sgd"), spec())
    assert judged.verdict == "no_difference"
    assert judged.effect.probability == 0.5
    assert not more_runs_may_decide(judged)


@pytest.mark.parametrize(
    ("metric", "value", "margin"),
    [
        ("accuracy", 0.5, 0.005),
        ("accuracy", 0.99, 0.002),
        ("accuracy", 1.0, 0.0),
        ("rmse", 40.0, 0.4),
        ("r2", -0.5, 0.005),
    ],
)
def test_the_margin_shrinks_near_a_perfect_score(metric: str, value: float, margin: float) -> None:
    assert margin_of(metric, value, spec()) == pytest.approx(margin)


def test_a_margin_can_be_set_relative_or_absolute() -> None:
    assert margin_of("accuracy", 0.99, spec(equivalence_margin=0.02)) == pytest.approx(0.0198)
    assert margin_of("rmse", 40.0, spec(absolute_margin=3.0)) == 3.0


# -- enough search -----------------------------------------------------------------------------------------------------------


def test_rates_close_together_are_one_rate() -> None:
    assert distinct([1e-3, 1.1e-3, 1e-2]) == [1e-3, 1e-2]
    assert distinct([1e-3, 1.2e-3]) == [1.2e-3]
    assert distinct([]) == []


def test_adamw_is_tuned_when_its_best_rate_lies_inside_a_wide_grid() -> None:
    inside, _ = simulate(spec(search=FEW), bowl({"adamw": (0.003, 1.0), "lion": (0.001, 1.1), "sgd": (0.3, 1.1)}))
    assert tried(outcomes(inside, "train"), "adamw", 1).enough
    ranges = {"adamw": {"lr": [1e-4, 1e-3]}}
    cut, _ = simulate(spec(search={**FEW, "ranges": ranges}), bowl({"adamw": (0.003, 1.0), "lion": (0.001, 0.8)}))
    row_ = tried(outcomes(cut, "train"), "adamw", 1)
    assert not row_.enough
    answer = recommend(cut)
    assert (answer.verdict, answer.reason) == ("inconclusive", "not_enough_search")
    assert "of AdamW" in answer.summary


def test_the_edge_is_judged_by_the_best_few_where_many_were_tried() -> None:
    view, _ = simulate(spec(budget={"trials": 60}, search=FEW), bowl({"adamw": (0.003, 1.0), "lion": (0.001, 1.1)}))
    some = [o for o in outcomes(view, "train") if o.optimizer == "adamw" and o.alive][:15]
    assert math.isclose(best_rate(some), min(some, key=lambda o: o.rank).lr or 0.0)
    lucky = [
        replace(
            some[0],
            trial=some[0].trial.model_copy(
                update={"number": 1000 + i, "configuration": configuration_from("adamw", {"lr": rate}, Search())}
            ),
            result=some[0].result.model_copy(
                update={"objective": -1.0 + abs(math.log10(rate / 0.01)) - 9 * (rate == 0.1)}
            ),
        )
        for i, rate in enumerate(10 ** (-4 + 3 * i / 99) for i in range(100))
    ]
    assert lucky[-1].lr == 0.1
    assert 0.005 < best_rate(lucky) < 0.05


def test_a_plateau_is_recognised() -> None:
    flat, _ = simulate(spec(search=FEW), bowl({}, width=0.0), noise=0.0, full=100)
    row_ = tried(outcomes(flat, "train"), "adamw", 0)
    assert row_.plateau
    assert not row_.enough
    assert any("plateau" in note for note in recommend(flat).notes)


# -- statistics of the search ------------------------------------------------------------------------------------------------


def test_expected_best_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal(30)
    drawn = np.array([rng.choice(sample, 5, replace=False).max() for _ in range(20_000)])
    assert expected_best(sample, 5) == pytest.approx(drawn.mean(), abs=0.02)
    assert expected_best(sample, 30) == pytest.approx(sample.max())
    low, high = best_band(sample, 5)
    assert low <= expected_best(sample, 5) <= high


# -- the document ------------------------------------------------------------------------------------------------------------


def test_the_document_has_the_contract_and_survives_json() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 0.7)}))
    document = json.loads(json.dumps(recommend(view).document()))
    assert next(iter(document)) == "schema"
    assert document["schema"] == "whichopt.recommendation/1"
    assert set(document) == {
        "schema", "study", "basis", "verdict", "reason", "headline", "summary", "notes", "recommended", "metric", "score",
        "baselines", "gain", "effect", "decide", "going_on", "time_to_target", "equivalent", "not_tried",
        "trivial", "reference", "trained", "league", "cost", "dataset", "engine", "snippet", "replay",
    }  # fmt: skip
    assert (document["verdict"], document["reason"]) == ("better", None)
    assert set(document["baselines"]) == {"adamw_default", "adamw_tuned"}
    assert (document["score"]["seeds"], document["score"]["runs"], document["score"]["rows"]) == (2, 10, 100)
    for name in ("gain", "effect"):
        low, high = document[name]["ci95"]
        assert low <= document[name]["difference"] <= high < 0
        assert document[name]["probability_better"] > 0.97
    assert len(document["league"]) == len(Search().included())
    assert document["cost"]["trials"] == 100
    assert document["cost"]["confirmation_runs"] == 28 + 60
    assert document["replay"]["folds"] == 5
    assert Recommendation.model_validate_json(json.dumps(document)) == recommend(view)


def test_searched_and_confirmed_scores_are_two_columns_and_the_league_follows_one() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 0.7)}))
    league = recommend(view).league
    assert sum(line.confirmed is not None for line in league) == 4
    order = [(-(line.searched_steps or 0), line.searched) for line in league if line.searched is not None]
    assert order == sorted(order)


def test_the_gain_over_default_adamw_comes_first() -> None:
    for truth in (
        bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 0.7)}),
        bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 1.0)}),
    ):
        answer = recommend(simulate(spec(budget={"trials": 100}), truth)[0])
        assert "at its defaults" in answer.summary.split(". ")[0]


def test_a_diverged_confirmation_run_counts_as_the_worst_and_is_said() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), bowl({"adamw": (0.003, 1.0), "lion": (0.0003, 0.7)}))
    broken = []
    for unit in view.units:
        if unit.spec.kind == "confirm" and unit.spec.fold == 2 and unit.result is not None:
            number = next(t.number for t in unit.spec.trials if t.configuration.optimizer == "lion")
            trials = [
                r.model_copy(update={"metric": None, "diverged_at_step": 3, "rows": {}}) if r.number == number else r
                for r in unit.result.trials
            ]
            unit = unit.model_copy(update={"result": unit.result.model_copy(update={"trials": trials})})
        broken.append(unit)
    whole, hurt = recommend(view), recommend(view.model_copy(update={"units": broken}))
    assert any("Lion diverged in 1 of its 10" in note for note in hurt.notes)
    intervals = [
        next(r.confirmed.ci95 for r in a.league if r.optimizer == "lion" and r.confirmed) for a in (whole, hurt)
    ]
    (low, high), (wide_low, wide_high) = intervals
    assert wide_high - wide_low > 2 * (high - low)


def test_a_second_look_counts_when_it_is_whole() -> None:
    view, _ = simulate(spec(budget={"trials": 60}), bowl({"adamw": (0.003, 1.0), "lion": (0.001, 0.985)}), noise=0.1)
    looks = {u.spec.rung for u in view.units if u.spec.kind == "confirm"}
    assert looks == {0, 1}
    full = evidence(view)
    assert full is not None
    assert (full.look, len(full.seeds)) == (1, 4)
    last = next(u for u in view.units if u.spec.kind == "confirm" and u.spec.rung == 1)
    open_one = last.model_copy(update={"state": UnitState.CANCELLED, "result": None})
    partly = evidence(StudyView(**{**view.__dict__, "units": [open_one if u is last else u for u in view.units]}))
    assert partly is not None
    assert (partly.look, len(partly.seeds)) == (0, 2)


def test_the_yardstick_is_the_better_of_two_configurations_of_adamw() -> None:
    view, _ = simulate(spec(budget={"trials": 60}), bowl({"adamw": (0.003, 1.0), "lion": (0.001, 0.985)}))
    found = evidence(view)
    assert found is not None
    tuned = [one for one in found.confirmed if "adamw_tuned" in one.roles]
    assert len(tuned) == 2
    best = min(tuned, key=lambda one: one.metrics.mean())
    answer = recommend(view)
    assert answer.baselines["adamw_tuned"].hyperparameters == best.configuration.hyperparameters
    worse = next(one for one in tuned if one is not best)
    assert worse.metrics.mean() > best.metrics.mean()
    # Whichever of them it is.
    swapped = {
        one.configuration.model_dump_json(): other.configuration for one, other in ((best, worse), (worse, best))
    }
    units = [
        u.model_copy(update={"spec": u.spec.model_copy(update={"trials": [
            t.model_copy(update={"configuration": swapped.get(t.configuration.model_dump_json(), t.configuration)})
            for t in u.spec.trials
        ]})}) if u.spec.kind == "confirm" else u
        for u in view.units
    ]  # fmt: skip
    again = recommend(view.model_copy(update={"units": units}))
    assert again.baselines["adamw_tuned"].mean == answer.baselines["adamw_tuned"].mean
    assert again.baselines["adamw_tuned"].hyperparameters == worse.configuration.hyperparameters


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "1 s"), (8.2, "9 s"), (10.1, "15 s"), (41, "45 s"), (89, "90 s"), (100, "2 min"), (5399, "90 min"),
     (5401, "1.6 h"), (7200, "2.0 h")],
)  # fmt: skip
def test_durations_are_what_one_would_type(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text
    # What is answered is what is said.
    assert wording.typed(seconds) >= seconds
    assert wording.duration(wording.typed(seconds)) == text


def test_probabilities_are_never_certain() -> None:
    assert wording.probability(1.0) == "> 99.9 %"
    assert wording.probability(0.0) == "< 0.1 %"
    assert wording.probability(0.5) == "50.0 %"
    assert math.isclose(float(wording.number(-0.5).replace(wording.MINUS, "-")), -0.5)


def test_default_configurations_are_the_first_of_a_confirmation() -> None:
    view, _ = simulate(spec(budget={"trials": 60}), bowl({"adamw": (0.003, 1.0)}))
    first = min((t for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials), key=lambda t: t.number)
    assert first.configuration == default_configuration("adamw")
    assert "adamw_default" in first.roles


def test_a_rival_that_only_the_search_saw_ahead_is_named_as_not_confirmed() -> None:
    alone = found({"default": 1.0, "adamw": 1.0}, 0.05, whole=False)
    rows = {
        "adamw": row("adamw", lacks="only one learning rate", value=1.0, horizon=400),
        "lion": row("lion", lacks="only 1 of 3 learning rates", value=0.8, horizon=400),
        "sgd": row("sgd", lacks="only 1 of 3 learning rates", value=0.7, horizon=100),
    }
    said = wording.summary(judge(alone, rows, spec()), alone, rows, None)
    assert "Lion looked better (0.8 against 1, validation); that is not confirmed." in said
    assert "SGD" not in said
