"""What follows a search: screening, confirmation on five folds, early answers, and what is said on the way."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import answer, bowl, probe_report, simulate, spec

from optim_core.recommend import recommend, standing
from optim_core.recommend.history import outcomes
from optim_core.search import Finish, Plan, plan
from optim_core.search.confirm import finalists, first_look
from optim_core.spec.price import screening_sizes
from optim_core.spec.states import UnitState
from optim_core.spec.trial import UnitView

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.3, 1.2), "lion": (0.0003, 0.8)})
FEW = {"optimizers": ["adamw", "sgd", "lion"]}


def test_screening_treats_adamw_like_its_rivals_on_fresh_seeds() -> None:
    view, _ = simulate(spec(budget={"trials": 100}), TRUTH)
    screened = [t for u in view.units if u.spec.kind == "screen" for t in u.spec.trials]
    by_optimizer = {
        name: {t.configuration.model_dump_json() for t in screened if t.configuration.optimizer == name}
        for name in {t.configuration.optimizer for t in screened}
    }
    assert len(by_optimizer) == 4
    assert {len(own) for name, own in by_optimizer.items() if name != "adamw"} == {3}
    # Its default and one of another rate stand beside its best three: the yardstick is AdamW at its best.
    assert len(by_optimizer["adamw"]) in (4, 5)
    assert not {t.seed for t in screened} & {t.seed for o in outcomes(view, "train") for t in [o.trial]}
    units = [u.spec for u in view.units if u.spec.kind == "screen"]
    assert {u.split for u in units} == {"validation"}
    # Every configuration on every seed, each seed on another fold.
    assert [u.fold for u in units] == [0, 1]
    assert len({tuple(t.configuration.model_dump_json() for t in u.trials) for u in units}) == 1


def test_the_more_was_tried_the_more_is_screened() -> None:
    assert [screening_sizes(n)[0] for n in (0, 149, 150, 5000)] == [(3, 2), (3, 2), (5, 3), (8, 4)]
    many, _ = simulate(spec(budget={"trials": 160}, search=FEW), TRUTH)
    units = [u.spec for u in many.units if u.spec.kind == "screen"]
    assert {u.fold for u in units} == {0, 1, 2}
    assert len([t for u in units if u.fold == 0 for t in u.trials if t.configuration.optimizer == "lion"]) == 5


def test_a_screening_that_was_cut_short_counts_whole_seeds_only() -> None:
    view, _ = simulate(spec(budget={"trials": 60}, search=FEW), TRUTH, until="confirm")
    found = outcomes(view, "train")
    whole = finalists(view, found)
    cut = [
        u.model_copy(update={"state": UnitState.CANCELLED, "result": None})
        if u.spec.kind == "screen" and u.spec.fold == 1
        else u
        for u in view.units
    ]
    first = finalists(view.model_copy(update={"units": cut}), found)
    assert {c.optimizer for c, _ in first} == {c.optimizer for c, _ in whole}


def test_confirmation_seeds_are_fresh_and_shared_by_all_on_every_fold() -> None:
    view, _ = simulate(spec(), TRUTH)
    before = {t.seed for u in view.units if u.spec.kind != "confirm" for t in u.spec.trials}
    confirm = [
        (t.configuration.model_dump_json(), t.seed, u.spec.fold)
        for u in view.units
        if u.spec.kind == "confirm"
        for t in u.spec.trials
    ]
    configurations, seeds, folds = (set(column) for column in zip(*confirm, strict=True))
    assert not before & seeds
    assert folds == {0, 1, 2, 3, 4}
    assert len(set(confirm)) == len(confirm) == len(seeds) * len(configurations) * len(folds)
    assert all(u.spec.split == "test" for u in view.units if u.spec.kind == "confirm")


@pytest.mark.parametrize(("training", "folds"), [({"test_fraction": 0.3}, None), ({}, 1)], ids=["spec", "data"])
def test_a_split_of_the_persons_own_is_confirmed_on_it_with_more_seeds(training: dict, folds: int | None) -> None:
    view, _ = simulate(spec(training=training), TRUTH, report=probe_report(folds=folds))
    assert {u.spec.fold for u in view.units if u.spec.kind == "screen"} == {None}
    units = [u.spec for u in view.units if u.spec.kind == "confirm"]
    assert {u.fold for u in units} == {None}
    assert len({t.seed for u in units if u.rung == 0 for t in u.trials}) == 5
    answered = recommend(view)
    assert answered.replay.folds == 1
    assert any("given test split" in note for note in answered.notes)


def test_finishing_early_gives_an_answer_from_what_is_there() -> None:
    full, _ = simulate(spec(budget={"trials": 100}), TRUTH)
    some = [u for u in full.units if u.spec.kind == "probe" or (u.spec.generation < 3 and u.spec.kind == "train")]
    view = full.model_copy(update={"units": some, "finishing": True})
    kinds = []
    for _ in range(10):
        step = plan(view)
        if isinstance(step, Finish):
            break
        assert isinstance(step, Plan)
        kinds += [u.kind for u in step.units]
        done = [UnitView(spec=u, state=UnitState.DONE, result=answer(u, TRUTH, 0.01)) for u in step.units]
        view = view.model_copy(update={"units": [*view.units, *done]})
    assert set(kinds) == {"confirm"}
    assert 2 <= sum(len(u.spec.trials) for u in view.units if u.spec.kind == "confirm") <= 8
    answered = recommend(view)
    assert (answered.verdict, answered.reason) == ("inconclusive", "not_enough_search")
    assert answered.recommended.optimizer == "adamw"


def test_the_way_so_far_is_told_from_the_first_pack_on() -> None:
    view, _ = simulate(spec(), TRUTH, until="train")
    assert standing(view) is None
    step = plan(view)
    assert isinstance(step, Plan)
    done = [
        UnitView(spec=u, state=UnitState.DONE, result=answer(u, TRUTH, 0.0)) for u in step.units if u.generation == 0
    ]
    stands = standing(view.model_copy(update={"units": [*view.units, *done]}))
    assert stands is not None
    assert stands.gain == pytest.approx(math.log10(3) ** 2, abs=0.01)
    assert stands.optimizer == "adamw"


def test_a_large_table_that_is_dear_is_confirmed_on_one_fold_with_more_seeds() -> None:
    chosen, _ = simulate(spec(budget={"trials": 60}, search=FEW), TRUTH, until="confirm")
    large = probe_report(train_rows=6000, validation_rows=2000, test_rows=2000)
    whole = first_look(chosen.spec, large, finalists(chosen, outcomes(chosen, "train")), math.inf)
    dear = first_look(chosen.spec, large, whole.chosen, 20 * large.full_horizon)
    small = first_look(chosen.spec, probe_report(), whole.chosen, 20 * large.full_horizon)
    assert (len(whole.folds), len(whole.seeds)) == (5, 2)
    assert (len(dear.folds), len(dear.seeds)) == (1, 5)
    assert (len(small.folds), len(small.seeds)) == (3, 1)
    assert not any("rival" in roles for _, roles in small.chosen)


def test_a_second_look_has_other_seeds_on_the_same_folds() -> None:
    close = bowl({"adamw": (0.003, 1.0), "lion": (0.001, 0.985), "sgd": (0.3, 1.1)})
    view, _ = simulate(spec(budget={"trials": 62}, search=FEW), close, noise=0.1)
    looks = [[u.spec for u in view.units if u.spec.kind == "confirm" and u.spec.rung == look] for look in (0, 1)]
    first, second = ({t.seed for u in units for t in u.trials} for units in looks)
    assert len(first) == len(second) == 2
    assert not first & second
    assert [u.fold for u in looks[0]] == [u.fold for u in looks[1]]


def test_a_budget_in_time_gives_a_second_look_the_seeds_that_it_has_room_for() -> None:
    close = bowl({"adamw": (0.003, 1.0), "lion": (0.001, 0.97), "sgd": (0.3, 1.1)})
    seeds = {}
    for per_step in (2e-6, 1e-4):
        study = spec(budget={"seconds": 20.0}, search=FEW)
        view, _ = simulate(study, close, noise=0.2, seconds_per_step=per_step)
        seeds[per_step] = {t.seed for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials if u.spec.rung}
        assert view.elapsed_s <= 21.0
    assert len(seeds[2e-6]) == 10
    assert 2 <= len(seeds[1e-4]) < 10


def test_a_confirmation_in_which_everything_diverges_fails_with_a_reason() -> None:
    view, _ = simulate(spec(search=FEW), TRUTH)
    broken = [
        u.model_copy(
            update={
                "result": u.result.model_copy(
                    update={
                        "trials": [
                            t.model_copy(update={"metric": None, "diverged_at_step": 1, "rows": {}})
                            for t in u.result.trials
                        ]
                    }
                )
            }
        )
        if u.spec.kind == "confirm" and u.spec.fold == 1 and u.result is not None
        else u
        for u in view.units
    ]
    end = plan(view.model_copy(update={"units": broken}))
    assert isinstance(end, Finish)
    assert end.failure is not None
    assert end.failure[0] == "all_runs_diverged"
