"""The planner: deterministic, within budget, fair to AdamW, and it finds what is there to be found."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import answer, bowl, probe_report, simulate, spec

from optim_core.recommend import recommend
from optim_core.recommend.enough import tried
from optim_core.recommend.history import best_of, outcomes
from optim_core.search import Plan, Wait, forecast, plan
from optim_core.search.budget import affordable, comparing_s, competing, left_steps, purse, reserve_s
from optim_core.search.planner import packs
from optim_core.search.portfolio import HALF_DECADE, baseline_grid, scaled
from optim_core.search.rungs import aligned, horizons, keep_fraction, promoted
from optim_core.search.suggest import children
from optim_core.spec.problem import Budget, Search
from optim_core.spec.space import search_space
from optim_core.spec.states import UnitState
from optim_core.spec.trial import Configuration, StudyView, UnitSpec, UnitView

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.3, 1.2), "lion": (0.0003, 0.8)})
FEW = {"optimizers": ["adamw", "sgd", "lion"]}


def searched(view: StudyView) -> Counter[str]:
    numbers = {o.trial.number: o.optimizer for o in outcomes(view, "train")}
    return Counter(numbers.values())


def full_length(view: StudyView) -> Counter[str]:
    found = outcomes(view, "train")
    return Counter(o.optimizer for o in found if o.horizon == max(o.horizon for o in found))


def with_units(view: StudyView, units: list[UnitSpec], state: UnitState = UnitState.QUEUED) -> StudyView:
    return view.model_copy(update={"units": [*view.units, *(UnitView(spec=u, state=state) for u in units)]})


def start(**changes) -> StudyView:
    """A study whose probe is done."""
    view, _ = simulate(spec(**changes), TRUTH, until="train")
    return view


# -- plans ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_study_is_planned_alike_whatever_the_order_in_which_units_end(workers: int) -> None:
    first, _ = simulate(spec(), TRUTH, workers=workers)
    for seed in (1, 2):
        again, _ = simulate(spec(), TRUTH, shuffle=seed, workers=workers)
        assert sorted(u.spec.model_dump_json() for u in again.units) == sorted(
            u.spec.model_dump_json() for u in first.units
        )
        assert recommend(again) == recommend(first)


def test_with_a_budget_in_trials_the_number_of_workers_changes_no_trial() -> None:
    def trials(workers: int) -> set[str]:
        view, _ = simulate(spec(), TRUTH, workers=workers)
        return {t.model_dump_json() for u in view.units for t in u.spec.trials}

    assert trials(1) == trials(2) == trials(5)


def test_another_seed_searches_elsewhere() -> None:
    one, _ = simulate(spec(seed=1), TRUTH)
    two, _ = simulate(spec(seed=2), TRUTH)
    assert {u.spec.model_dump_json() for u in one.units} != {u.spec.model_dump_json() for u in two.units}


def test_the_next_generation_waits_in_the_queue_while_one_trains() -> None:
    view = start()
    step = plan(view)
    assert isinstance(step, Plan)
    assert {u.generation for u in step.units} == {0, 1}
    view = with_units(view, step.units)
    assert isinstance(plan(view), Wait)
    done = [
        UnitView(spec=u.spec, state=UnitState.DONE, result=answer(u.spec, TRUTH, 0.01))
        if u.spec.generation == 0 and u.spec.kind == "train"
        else u
        for u in view.units
    ]
    step = plan(view.model_copy(update={"units": done}))
    assert isinstance(step, Plan)
    assert {u.generation for u in step.units} == {2}


def test_a_plan_knows_nothing_of_the_generation_before() -> None:
    """What generation 1 found must not matter to generation 2, however early it ended."""
    view = start()
    step = plan(view)
    assert isinstance(step, Plan)

    def after(ended: set[int]) -> Plan:
        units = [
            UnitView(spec=u, state=UnitState.DONE, result=answer(u, TRUTH, 0.01))
            if u.generation in ended
            else UnitView(spec=u, state=UnitState.QUEUED)
            for u in step.units
        ]
        found = plan(view.model_copy(update={"units": [*view.units, *units]}))
        assert isinstance(found, Plan)
        return found

    early, late = after({0}), after({0, 1})
    assert [u for u in late.units if u.generation == 2] == early.units
    assert {u.generation for u in late.units} == {2, 3}


def test_every_worker_gets_a_pack() -> None:
    view = start(budget={"seconds": 1000.0}).model_copy(update={"workers": 6})
    units: list[UnitSpec] = []
    for _ in range(3):
        step = plan(view)
        assert isinstance(step, Plan)
        units = step.units
        view = view.model_copy(
            update={
                "units": [
                    *view.units,
                    *(UnitView(spec=u, state=UnitState.DONE, result=answer(u, TRUTH, 0.01)) for u in units),
                ]
            }
        )
    last = max(u.generation for u in units)
    assert sum(u.generation == last for u in units) >= 6


def test_open_units_are_waited_for_before_screening_and_confirmation() -> None:
    view, _ = simulate(spec(), TRUTH, until="screen")
    open_unit = view.units[-1].model_copy(update={"state": UnitState.LEASED, "result": None})
    assert isinstance(plan(view.model_copy(update={"units": [*view.units[:-1], open_unit]})), Wait)


# -- budgets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [1, 2, 7, 12, 60, 150])
def test_a_budget_in_trials_is_kept_exactly(trials: int) -> None:
    view, end = simulate(spec(budget={"trials": trials}), TRUTH)
    assert end.failure is None
    assert sum(searched(view).values()) == trials
    assert recommend(view).verdict in {"better", "no_difference", "inconclusive"}


def test_a_budget_in_steps_is_kept() -> None:
    view, _ = simulate(spec(budget={"train_steps": 20_000}), TRUTH)
    used = sum(u.result.train_steps for u in view.units if u.spec.kind == "train" and u.result)
    assert used <= 20_000


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seconds_per_step", [1e-4, 1e-3, 1e-2])
def test_a_budget_in_seconds_covers_the_confirmation_too(seconds_per_step: float, workers: int) -> None:
    view, end = simulate(
        spec(budget={"seconds": 20.0}, search=FEW), TRUTH, seconds_per_step=seconds_per_step, workers=workers
    )
    assert end.failure is None
    pack = max(
        sum(u.result.seconds for u in view.units if u.result and u.spec.generation == g) / workers
        for g in {u.spec.generation for u in view.units}
    )
    dearest = max(u.result.seconds for u in view.units if u.result)
    # One pack more than was asked, and where not even AdamW's default can be trained, that.
    assert view.elapsed_s <= 20.0 + max(dearest, min(pack, 4.0)) + 0.2
    if seconds_per_step < 1e-3:
        # What a second look would have taken is left.
        assert view.elapsed_s > 12.0
        assert recommend(view).reason != "not_enough_search"


def test_a_search_in_seconds_that_is_slow_tries_less() -> None:
    slow, _ = simulate(spec(budget={"seconds": 20.0}), TRUTH, seconds_per_step=1e-3)
    fast, _ = simulate(spec(budget={"seconds": 20.0}), TRUTH, seconds_per_step=2e-4)
    assert 0 < sum(searched(slow).values()) < sum(searched(fast).values())


@given(
    trials=st.none() | st.integers(1, 1000),
    seconds=st.none() | st.floats(0.001, 1e6),
    steps=st.none() | st.integers(1, 10**7),
)
def test_budgets_only_ever_tighten(trials: int | None, seconds: float | None, steps: int | None) -> None:
    if trials is None and seconds is None and steps is None:
        return
    budget = Budget(trials=trials, seconds=seconds, train_steps=steps)
    study = spec(budget=budget.model_dump())
    view, probe = BASE.model_copy(update={"spec": study}), probe_report()
    left = purse(view, probe, 0.0)
    for one in ("trials", "seconds", "train_steps"):
        if getattr(budget, one) is not None:
            alone = view.model_copy(update={"spec": spec(budget={one: getattr(budget, one)})})
            assert left.steps <= purse(alone, probe, 0.0).steps
            assert left.trials <= purse(alone, probe, 0.0).trials
            assert affordable(study, probe) <= affordable(alone.spec, probe)
    assert left_steps(view, probe) >= 0
    assert seconds is None or 0 <= reserve_s(view, probe) <= 0.4 * seconds + 1e-9


BASE, _ = simulate(spec(budget={"trials": 3}), TRUTH)


def test_what_a_budget_buys_is_said_before_training() -> None:
    small, large = forecast(start(budget={"seconds": 0.01})), forecast(start(budget={"seconds": 500.0}))
    assert small is not None
    assert large is not None
    assert not small.enough
    assert large.enough
    assert "too few for a verdict" in small.sentence
    assert small.needed_s == pytest.approx(large.needed_s)
    assert forecast(StudyView(study_id="s", spec=spec(), units=[], elapsed_s=0, device_s=0)) is None


def test_the_budget_that_is_named_as_enough_is_enough() -> None:
    for rate in (2e-5, 2e-4, 2e-3):
        for search in (FEW, {}):
            short, _ = simulate(spec(budget={"seconds": 0.5}, search=search), TRUTH, seconds_per_step=rate)
            needed = forecast(short)
            assert needed is not None
            view, _ = simulate(spec(budget={"seconds": needed.needed_s}, search=search), TRUTH, seconds_per_step=rate)
            assert recommend(view).reason != "not_enough_search", (rate, search, recommend(view).summary)


def test_a_budget_that_can_confirm_no_rival_tunes_adamw_alone() -> None:
    probe = probe_report()
    study = spec(budget={"seconds": 0.9 * comparing_s(spec(), probe)})
    assert competing(study, probe) == ["adamw"]
    view, _ = simulate(study, TRUTH, seconds_per_step=6e-5)
    assert {o.optimizer for o in outcomes(view, "train")} == {"adamw"}
    answer = recommend(view)
    assert (answer.verdict, answer.reason, answer.recommended.optimizer) == (
        "inconclusive",
        "not_enough_search",
        "adamw",
    )
    assert "the budget is too small to confirm one, so all of it went into tuning AdamW" in answer.summary
    assert set(answer.not_tried) == set(study.search.included()) - {"adamw"}

    study = spec(budget={"seconds": 1.1 * comparing_s(spec(), probe)})
    assert competing(study, probe) == study.search.included()
    view, _ = simulate(study, TRUTH, seconds_per_step=6e-5)
    assert recommend(view).replay.folds == 5
    assert any("rival" in t.roles for u in view.units for t in u.spec.trials), "what was kept back suffices for a claim"
    # What costs trials or steps has no such limit.
    assert competing(spec(budget={"trials": 3}), probe) == spec().search.included()


# -- the search ----------------------------------------------------------------------------------------------------------


def test_adamws_rates_come_first_over_more_than_three_decades() -> None:
    step = plan(start())
    assert isinstance(step, Plan)
    grid = [t for u in step.units if u.generation == 0 for t in u.trials]
    rates = sorted(float(t.configuration.hyperparameters["lr"]) for t in grid)
    assert {t.configuration.optimizer for t in grid} == {"adamw"}
    assert math.log10(rates[-1] / rates[0]) >= 3
    assert len(rates) >= 8
    assert grid[0].number == 0
    assert any(t.number == 0 and t.origin == "default" for t in grid)


def test_the_grid_is_extended_where_its_best_lies_at_an_edge() -> None:
    far = bowl({"adamw": (1.0, 1.0), "sgd": (0.3, 1.2), "lion": (0.01, 1.5)})
    view, _ = simulate(spec(search=FEW), far)
    best = min((o for o in outcomes(view, "train") if o.optimizer == "adamw"), key=lambda o: (-o.rung, o.rank))
    assert 0.3 < (best.lr or 0) < 3
    assert tried(outcomes(view, "train"), "adamw", 1).enough


def test_a_range_of_the_persons_is_never_left() -> None:
    study = spec(search={**FEW, "ranges": {"adamw": {"lr": [1e-5, 1e-4]}, "lion": {"lr": [1e-5, 1e-4]}}})
    view, _ = simulate(study, TRUTH)
    rates = [o.lr or 0 for o in outcomes(view, "train") if o.optimizer in ("adamw", "lion")]
    assert all(1e-5 <= rate <= 1e-4 * (1 + 1e-9) for rate in rates)
    answered = recommend(view)
    assert (answered.verdict, answered.reason) == ("inconclusive", "not_enough_search")


def test_rivals_start_from_rates_scaled_by_adamws_best() -> None:
    rates = [float(c.hyperparameters["lr"]) for c in scaled("sgd", 0.003, Search())]
    assert rates == pytest.approx([0.3, 0.3 / HALF_DECADE, 0.3 * HALF_DECADE])
    assert scaled("lbfgs", 0.003, Search(optimizers=["lbfgs"])) == []


@given(st.floats(1e-6, 1.0), st.floats(1.0, 1e4))
def test_a_grid_covers_the_persons_range(low: float, factor: float) -> None:
    search = Search(ranges={"adamw": {"lr": [low, low * factor]}})
    rates = [float(c.hyperparameters["lr"]) for c in baseline_grid(search, 9)]
    assert min(rates) >= low * (1 - 1e-9)
    assert max(rates) <= low * factor * (1 + 1e-9)
    if factor > 1.01:
        assert min(rates) == pytest.approx(low, rel=1e-6)
        assert max(rates) == pytest.approx(low * factor, rel=1e-6)


@pytest.mark.parametrize("trials", [20, 60, 150])
@pytest.mark.parametrize("search", [{}, FEW])
def test_adamw_gets_at_least_as_many_trials_as_any_rival(trials: int, search: dict) -> None:
    view, _ = simulate(spec(budget={"trials": trials}, search=search), TRUTH)
    counts, full = searched(view), full_length(view)
    assert counts["adamw"] == max(counts.values())
    assert full["adamw"] == max(full.values())


def test_better_optimizers_get_more_trials() -> None:
    counts = searched(simulate(spec(budget={"trials": 150}), TRUTH)[0])
    assert counts["lion"] > 2 * min(counts.values())


def test_every_trial_above_the_first_rung_was_seen_below_and_none_had_diverged() -> None:
    view, _ = simulate(spec(budget={"trials": 120}), TRUTH)
    low = {o.trial.number: o for o in outcomes(view, "train") if o.rung == 0}
    high = [o for o in outcomes(view, "train") if o.rung == 1]
    assert high
    assert all(low[o.trial.number].result.diverged_at_step is None for o in high)
    assert {o.horizon for o in high} == {400}


def test_the_default_of_adamw_is_trial_number_zero_and_reaches_the_top() -> None:
    view, _ = simulate(spec(), TRUTH)
    zero = [o for o in outcomes(view, "train") if o.trial.number == 0]
    assert zero[0].optimizer == "adamw"
    assert zero[0].trial.origin == "default"
    assert {o.rung for o in zero} == {0, 1}


def test_a_study_in_which_everything_diverges_fails_with_a_reason() -> None:
    _, end = simulate(spec(), lambda c, share: float("nan"))
    assert end.failure is not None
    assert end.failure[0] == "all_trials_failed"


def test_a_planted_winner_is_found_and_its_learning_rate_too() -> None:
    wins = 0
    for seed in range(10):
        view, _ = simulate(spec(seed=seed, budget={"trials": 100}), TRUTH, noise=0.02)
        answered = recommend(view)
        near = 0.0001 < float(answered.recommended.hyperparameters["lr"]) < 0.001
        wins += answered.verdict == "better" and answered.recommended.optimizer == "lion" and near
    assert wins >= 9


def test_equal_optimizers_are_not_told_apart() -> None:
    flat = bowl({name: (0.003 * scale, 1.0) for name, scale in (("adamw", 1.0), ("sgd", 100.0), ("lion", 1.0))})
    verdicts = Counter(recommend(simulate(spec(seed=s, search=FEW), flat, noise=0.003)[0]).verdict for s in range(20))
    assert verdicts["better"] == 0
    assert verdicts["no_difference"] >= 12


def test_a_single_optimizer_is_tuned() -> None:
    view, _ = simulate(spec(budget={"trials": 40}, search={"optimizers": ["adamw"]}), TRUTH)
    assert searched(view) == {"adamw": 40}
    assert recommend(view).headline == "AdamW, tuned."


# -- rungs ---------------------------------------------------------------------------------------------------------------


def test_there_are_as_many_rungs_as_a_trials_price_justifies() -> None:
    assert horizons(100, 10, 5) == [100]
    assert horizons(1000, 1000, 5) == [1000]
    assert horizons(1000, 30, 5) == [250, 1000]
    assert horizons(1000, 4, 5) == [62, 250, 1000]
    assert horizons(300, 5, 5) == [75, 300]


def test_promotion_keeps_more_when_rungs_disagree() -> None:
    agree, _ = simulate(spec(budget={"trials": 100}), TRUTH, noise=0.0)
    assert keep_fraction(outcomes(agree, "train"), 0) == 0.35

    def opposite(c, share):
        loss = TRUTH(c, 1.0)
        return loss if share == 1.0 else 5.0 - loss

    disagree, _ = simulate(spec(budget={"trials": 100}), opposite, noise=0.0)
    assert keep_fraction(outcomes(disagree, "train"), 0) == 0.7


def test_no_trial_is_promoted_twice_and_none_that_diverged() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), TRUTH)
    low = [o for o in outcomes(view, "train") if o.rung == 0]
    first = promoted(low, 0, set())
    taken = {o.trial.number for o in first}
    assert first
    assert all(o.alive for o in first)
    assert not taken & {o.trial.number for o in promoted(low, 0, taken)}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_peak_far_from_a_plateau_is_found(seed: int) -> None:
    def truth(configuration: Configuration, share: float) -> float:
        """Everything alike, small rates least bad, but for a peak a decade wide that only a short memory shows."""
        own = configuration.hyperparameters
        away = math.log10(float(own["lr"]) / 0.1)
        peak = 0.3 * math.exp(-(away**2) / 0.1) if float(own["beta1"]) < 0.8 else 0.0
        return 0.7 + 0.01 * away - peak

    study = spec(budget={"trials": 600, "seeds": 2}, search={"optimizers": ["adamw"]}, seed=seed)
    view, _ = simulate(study, truth, noise=0.0)
    best = best_of(outcomes(view, "train"), "adamw")
    assert best is not None
    assert 0.03 < (best.lr or 0.0) < 0.3


def test_samplers_see_trials_of_all_rungs_on_one_scale() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), TRUTH, noise=0.0)
    found = [o for o in outcomes(view, "train") if o.optimizer == "adamw" and o.alive]
    values = {o.trial.number: value for o, value in aligned(found)}
    truth = {o.trial.number: TRUTH(o.trial.configuration, 1.0) for o in found}
    assert len(values) == len({o.trial.number for o in found})
    assert values == pytest.approx(truth, abs=1e-6)


@given(st.integers(0, 2**31 - 1))
def test_children_stay_inside_the_space(seed: int) -> None:
    space = search_space("adamw", 100, Search(techniques={"clip_norm": []}))
    parents = [
        {name: d.choices[0] if d.kind == "categorical" else d.low for name, d in space.items()},
        {name: d.choices[-1] if d.kind == "categorical" else d.high for name, d in space.items()},
    ]
    made = children(parents, space, seed)
    for _ in range(20):
        child = next(made)
        for name, domain in space.items():
            if domain.kind == "categorical":
                assert child[name] in domain.choices
            else:
                assert domain.low <= float(child[name]) <= domain.high


@given(count=st.integers(1, 200), largest=st.sampled_from([1, 2, 8, 64]), workers=st.integers(1, 20))
@settings(max_examples=40)
def test_packs_hold_every_trial_once_and_none_is_too_large(count: int, largest: int, workers: int) -> None:
    trial = next(t for u in BASE.units for t in u.spec.trials)
    trials = [trial.model_copy(update={"number": i}) for i in range(count)]
    cut = packs(trials, largest, workers)
    assert sorted(t.number for pack in cut for t in pack) == list(range(count))
    assert all(0 < len(pack) <= largest for pack in cut)
    assert len(cut) >= min(workers, count // 4)
