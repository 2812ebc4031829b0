"""The planner: deterministic, within budget, fair to AdamW, and it finds what is there to be found."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, probe_report, simulate, spec

from optim_core.recommend import recommend
from optim_core.search import Wait, plan
from optim_core.search.budget import planned_trials
from optim_core.search.history import outcomes
from optim_core.search.planner import packs
from optim_core.search.rungs import horizons, keep_fraction
from optim_core.spec.problem import Budget
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitView

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.3, 1.2), "lion": (0.0003, 0.8)})


def searched(view: StudyView) -> Counter[str]:
    return Counter(o.optimizer for o in outcomes(view, "train") if o.rung == 0)


def test_the_same_study_is_planned_alike_whatever_the_order_of_its_units() -> None:
    first, _ = simulate(spec(), TRUTH)
    for seed in (1, 2):
        again, _ = simulate(spec(), TRUTH, shuffle=seed)
        assert sorted(u.spec.model_dump_json() for u in again.units) == sorted(
            u.spec.model_dump_json() for u in first.units
        )
        assert recommend(again) == recommend(first)


def test_another_seed_searches_elsewhere() -> None:
    one, _ = simulate(spec(seed=1), TRUTH)
    two, _ = simulate(spec(seed=2), TRUTH)
    assert {u.spec.model_dump_json() for u in one.units} != {u.spec.model_dump_json() for u in two.units}


@pytest.mark.parametrize("trials", [1, 2, 7, 12, 60, 150])
def test_a_budget_in_trials_is_kept_exactly(trials: int) -> None:
    view, end = simulate(spec(budget={"trials": trials}), TRUTH)
    assert end.failure is None
    assert sum(searched(view).values()) == trials
    assert recommend(view).verdict in {"better", "no_difference", "inconclusive"}


def test_a_budget_in_steps_is_kept() -> None:
    view, _ = simulate(spec(budget={"train_steps": 20_000}), TRUTH)
    used = sum(u.result.train_steps for u in view.units if u.spec.kind == "train")
    assert used <= 20_000


def test_a_budget_in_seconds_stops_the_search_when_time_is_up() -> None:
    slow, _ = simulate(spec(budget={"seconds": 10.0}), TRUTH, seconds_per_unit=2.0)
    fast, _ = simulate(spec(budget={"seconds": 10.0}), TRUTH, seconds_per_unit=0.5)
    assert 0 < sum(searched(slow).values()) < sum(searched(fast).values())


def test_adamw_gets_at_least_as_many_trials_as_any_rival() -> None:
    for trials in (20, 60, 150):
        counts = searched(simulate(spec(budget={"trials": trials}), TRUTH)[0])
        assert counts["adamw"] == max(counts.values())


def test_better_optimizers_get_more_trials() -> None:
    counts = searched(simulate(spec(budget={"trials": 150}), TRUTH)[0])
    assert counts["lion"] > 2 * min(counts.values())


def test_confirmation_seeds_are_fresh_paired_and_shared() -> None:
    view, _ = simulate(spec(), TRUTH)
    search = {t.seed for u in view.units if u.spec.kind == "train" for t in u.spec.trials}
    confirm = [
        (t.configuration.model_dump_json(), t.seed)
        for u in view.units
        if u.spec.kind == "confirm"
        for t in u.spec.trials
    ]
    seeds = {seed for _, seed in confirm}
    configurations = {configuration for configuration, _ in confirm}
    assert len(search) == 1
    assert not search & seeds
    assert len(confirm) == len(seeds) * len(configurations)
    assert all(u.spec.split == ("test" if u.spec.kind == "confirm" else "validation") for u in view.units)


def test_every_trial_of_the_top_rung_was_seen_below_and_none_had_diverged() -> None:
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


def test_open_units_are_waited_for() -> None:
    view, _ = simulate(spec(), TRUTH)
    open_unit = UnitView(spec=view.units[1].spec, state=UnitState.LEASED)
    assert isinstance(plan(view.model_copy(update={"units": [view.units[0], open_unit]})), Wait)


def test_a_study_in_which_everything_diverges_fails_with_a_reason() -> None:
    _, end = simulate(spec(), lambda c, share: float("nan"))
    assert end.failure is not None
    assert end.failure[0] == "all_trials_failed"


def test_a_planted_winner_is_found_and_its_learning_rate_too() -> None:
    wins = 0
    for seed in range(10):
        view, _ = simulate(spec(seed=seed, budget={"trials": 100}), TRUTH, noise=0.02)
        answer = recommend(view)
        near = 0.0001 < float(answer.recommended.hyperparameters["lr"]) < 0.001
        wins += answer.verdict == "better" and answer.recommended.optimizer == "lion" and near
    assert wins >= 9


def test_equal_optimizers_are_not_told_apart() -> None:
    flat = bowl({}, width=0.0)
    verdicts = Counter(recommend(simulate(spec(seed=s), flat, noise=0.003)[0]).verdict for s in range(20))
    assert verdicts["better"] == 0
    assert verdicts["no_difference"] >= 15


def test_short_runs_have_one_rung() -> None:
    assert horizons(100) == [100]
    assert horizons(1000) == [250, 1000]


def test_promotion_keeps_more_when_rungs_disagree() -> None:
    agree, _ = simulate(spec(budget={"trials": 100}), TRUTH, noise=0.0)
    assert keep_fraction(outcomes(agree, "train")) == 0.25

    def opposite(c, share):
        loss = TRUTH(c, 1.0)
        return loss if share == 1.0 else 5.0 - loss

    disagree, _ = simulate(spec(budget={"trials": 100}), opposite, noise=0.0)
    assert keep_fraction(outcomes(disagree, "train")) == 0.5


@given(count=st.integers(1, 200), largest=st.sampled_from([1, 2, 8, 64]))
@settings(max_examples=40)
def test_packs_hold_every_trial_once_and_none_is_too_large(count: int, largest: int) -> None:
    view, _ = BASE
    trial = next(t for u in view.units for t in u.spec.trials)
    trials = [trial.model_copy(update={"number": i}) for i in range(count)]
    cut = packs(trials, largest)
    assert sorted(t.number for pack in cut for t in pack) == list(range(count))
    assert all(0 < len(pack) <= largest for pack in cut)
    assert count < 8 or len(cut) >= 2


BASE = simulate(spec(budget={"trials": 3}), TRUTH)


@given(
    trials=st.none() | st.integers(1, 1000),
    seconds=st.none() | st.floats(0.001, 1e6),
    steps=st.none() | st.integers(1, 10**7),
    done=st.integers(0, 50),
)
def test_budgets_only_ever_tighten(trials: int | None, seconds: float | None, steps: int | None, done: int) -> None:
    if trials is None and seconds is None and steps is None:
        return
    budget = Budget(trials=trials, seconds=seconds, train_steps=steps)
    view = BASE[0].model_copy(update={"spec": spec(budget=budget.model_dump()), "units": []})
    allowed = planned_trials(view, probe_report(), done, 200)
    assert allowed >= 1
    if trials is not None:
        assert allowed <= trials


def test_a_probe_on_a_busy_machine_does_not_cut_the_search_short() -> None:
    study = spec(budget={"seconds": 100.0})
    view = simulate(spec(budget={"trials": 30}), TRUTH)[0].model_copy(update={"spec": study})
    slow = probe_report(pack_step_s=1.0)
    first = [u for u in view.units if u.spec.key.startswith("g0")]
    at_first = view.model_copy(update={"units": [], "elapsed_s": 0.0})
    later = view.model_copy(update={"units": first, "elapsed_s": 2.0})
    assert planned_trials(at_first, slow, 0, 200) < 10
    assert planned_trials(later, slow, 30, 200) > 100
