"""What an answer says about use: the price of a wrong rate, time to target, whether to go on."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, simulate, spec

from optim_core.recommend import recommend
from optim_core.recommend.going_on import going_on
from optim_core.recommend.history import Outcome
from optim_core.recommend.sensitivity import lr_width, rate_cost
from optim_core.recommend.time_to_target import time_to_target
from optim_core.spec.problem import Search
from optim_core.spec.space import configuration_from, default_configuration
from optim_core.spec.states import UnitState
from optim_core.spec.trial import (
    WORST_VALUE,
    Configuration,
    CurvePoint,
    StudyView,
    TrialParams,
    TrialResult,
    UnitResult,
    UnitSpec,
    UnitView,
)

DEFAULT = default_configuration("adamw", Search())


def outcome(number: int, value: float | None, lr: float = 0.01, rung: int = 0, generation: int = 0) -> Outcome:
    """A trial of AdamW; None: it diverged. The higher, the better."""
    trial = TrialParams(
        number=number,
        configuration=configuration_from("adamw", {"lr": lr}, Search()),
        seed=1,
        stage="search",
        origin="x",
    )
    result = TrialResult(
        number=number, objective=WORST_VALUE if value is None else -value, metric=value, loss=None, steps=100,
        diverged_at_step=3 if value is None else None,
    )  # fmt: skip
    return Outcome(trial, generation, rung, 100 * 4**rung, result)


def rates(*pairs: tuple[float, float | None]) -> list[Outcome]:
    return [outcome(i, value, lr) for i, (lr, value) in enumerate(pairs)]


def test_a_rate_wrong_by_three_costs_what_the_best_trial_there_lacks() -> None:
    mine = rates((0.003, 0.80), (0.0035, 0.85), (0.01, 0.90), (0.03, 0.70), (0.1, 0.10))
    cost = rate_cost(mine, 1)
    assert cost is not None
    assert (cost.lower, cost.higher) == pytest.approx((0.05, 0.20))
    # Where lower is better.
    flipped = [
        Outcome(o.trial, 0, 0, 100, o.result.model_copy(update={"metric": o.result.objective}))
        for o in rates((0.003, -1.0), (0.01, -0.5), (0.03, -0.7))
    ]
    cost = rate_cost(flipped, -1)
    assert cost is not None
    assert (cost.lower, cost.higher) == pytest.approx((0.5, 0.2))


def test_a_side_that_diverged_costs_as_much_as_the_worst_and_one_that_nobody_tried_is_unknown() -> None:
    cost = rate_cost(rates((0.01, 0.9), (0.03, None), (0.009, 0.88), (0.011, 0.5)), 1)
    assert cost is not None
    assert cost.higher == pytest.approx(0.4)
    assert cost.lower is None
    assert rate_cost(rates((0.01, 0.9), (0.03, None), (0.009, 0.88)), 1) is None


def test_rates_are_compared_on_one_rung() -> None:
    short = rates((0.003, 0.6), (0.01, 0.7), (0.03, 0.5))
    whole = [outcome(7, 0.95, 0.01, rung=1), outcome(8, 0.9, 0.003, rung=1)]
    cost = rate_cost([*short, *whole], 1)
    assert cost is not None
    assert (cost.lower, cost.higher) == pytest.approx((0.1, 0.2))
    assert lr_width([*short, *whole], 1) == 0


def test_the_width_of_good_rates() -> None:
    assert lr_width(rates((0.001, 0.99), (0.01, 1.0), (0.1, 0.985), (1.0, 0.5)), 1) == pytest.approx(2)


@pytest.mark.parametrize(("late", "gain", "worth"), [(0.9, 0.0, False), (0.905, 0.005, False), (0.95, 0.05, True)])
def test_going_on_is_judged_by_what_the_second_half_brought(late: float, gain: float, worth: bool) -> None:
    values = [0.5, 0.9, *[0.7] * 8, late, *[0.6] * 9]
    found = [outcome(i, value, generation=i // 4) for i, value in enumerate(values)]
    # Shorter runs do not count, whatever they reached.
    short = [Outcome(o.trial, 0, 0, 25, o.result) for o in (outcome(90, 2.0), outcome(91, 3.0))]
    said = going_on([*found, *short], 100, 1, margin=0.01)
    assert said is not None
    assert said.late_gain == pytest.approx(gain)
    assert said.worth is worth
    assert going_on(found[:15], 100, 1, margin=0.01) is None


def confirmed(curves: dict[str, list[list[float | None]]], one: Configuration) -> StudyView:
    """Curves at steps 10, 20, … of default AdamW and of ``one``, a run each."""
    trials, results = [], []
    for name, configuration in (("default", DEFAULT), ("one", one)):
        for values in curves[name]:
            number = len(trials)
            trials.append(
                TrialParams(number=number, configuration=configuration, seed=number, stage="confirm", origin="x")
            )
            points = [CurvePoint(step=10 * (i + 1), train_loss=None, loss=None, value=v) for i, v in enumerate(values)]
            results.append(
                TrialResult(number=number, objective=0.0, metric=values[-1], loss=None, steps=40, curve=points)
            )
    unit = UnitSpec(key="c", kind="confirm", rung=0, horizon=40, split="test", trials=trials)
    result = UnitResult(trials=results, seconds=1.0, train_steps=1, device="cpu", engine="batched")
    units = [UnitView(spec=unit, state=UnitState.DONE, result=result)]
    return StudyView(study_id="s", spec=spec(), units=units, elapsed_s=1.0, device_s=1.0)


def test_time_to_target_is_where_the_mean_curve_crosses_what_the_default_ends_with() -> None:
    one = configuration_from("muon", {}, Search())
    view = confirmed({"default": [[0.1, 0.3, 0.5, 0.6], [0.1, 0.3, 0.5, 0.8]], "one": [[0.2, 0.6, 0.8, 0.9]] * 2}, one)
    found = time_to_target(view, one, DEFAULT, 1)
    assert found is not None
    assert (found.target, found.steps, found.of) == (pytest.approx(0.7), 25, 40)
    # Losses fall.
    view = confirmed({"default": [[9.0, 7.0, 5.0, 4.0]], "one": [[8.0, 4.0, 3.0, 2.0]]}, one)
    found = time_to_target(view, one, DEFAULT, -1)
    assert found is not None
    assert found.steps == 20


def test_time_to_target_is_unknown_where_it_is_never_reached_or_a_run_diverged() -> None:
    one = configuration_from("muon", {}, Search())
    never = confirmed({"default": [[0.1, 0.3, 0.5, 0.6]], "one": [[0.2, 0.3, 0.4, 0.5]]}, one)
    assert time_to_target(never, one, DEFAULT, 1) is None
    broken = confirmed({"default": [[0.1, 0.3, 0.5, 0.6]], "one": [[0.2, 0.9, 0.9, 0.9], [0.2, None, None, None]]}, one)
    assert time_to_target(broken, one, DEFAULT, 1) is None
    assert time_to_target(broken, DEFAULT, DEFAULT, 1) is None


def test_a_whole_study_says_all_three() -> None:
    view, _ = simulate(spec(budget={"trials": 120}), bowl({"adamw": (0.02, 1.0)}), noise=0.001)
    answer = recommend(view)
    assert answer.going_on is not None
    assert answer.going_on.worth is (answer.going_on.late_gain > answer.effect.margin)
    row = next(r for r in answer.league if r.optimizer == answer.recommended.optimizer)
    assert row.lr_wrong_by_3 is not None
    # The truth is a bowl: half a decade from its middle costs about a quarter, with what the windows' ends allow.
    for side in (row.lr_wrong_by_3.lower, row.lr_wrong_by_3.higher):
        assert side is not None
        assert math.log10(3) ** 2 / 8 < side < math.log10(3) ** 2 * 1.5
    said = " ".join(answer.notes)
    assert "A learning rate three times higher costs" in said
    assert "The second half of the search brought" in said
