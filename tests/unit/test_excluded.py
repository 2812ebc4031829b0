"""A trial that a person left out: the planner and the answer are as though it had not been there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from study_simulator import bowl, simulate, spec

from optim_core.recommend import recommend
from optim_core.recommend.history import highest, outcomes
from optim_core.search import Finish, Plan, plan
from optim_core.spec.trial import StudyView

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.1, 0.8)})


def studied(**changes) -> StudyView:
    view, _ = simulate(spec(search={"optimizers": ["sgd"]}, **changes), TRUTH)
    return view


def without(view: StudyView, *numbers: int) -> StudyView:
    return view.model_copy(update={"excluded": frozenset(numbers)})


def test_no_statistic_of_the_search_knows_it() -> None:
    view = studied()
    best = min(highest(outcomes(view, "train")).values(), key=lambda o: o.rank)
    left = without(view, best.trial.number)
    assert best.trial.number not in {o.trial.number for o in outcomes(left, "train")}
    before, after = recommend(view), recommend(left)
    assert [row.trials - other.trials for row, other in zip(before.league, after.league, strict=True)].count(1) == 1
    assert after.notes[0] == "1 trial was left out by hand."
    assert plan(left) == Finish()


def test_a_confirmation_run_takes_its_seed_with_it() -> None:
    view = studied(budget={"trials": 40, "seeds": 3})
    confirmed = [t for u in view.units if u.spec.kind == "confirm" for t in u.spec.trials]
    one = confirmed[0]
    left = without(view, one.number)
    seeds = recommend(view).replay.seeds
    assert recommend(left).replay.seeds == [seed for seed in seeds if seed != one.seed]
    assert recommend(left).score.seeds == len(seeds) - 1


def test_while_the_search_goes_on_its_number_is_not_given_out_again() -> None:
    view = studied()
    first = [u for u in view.units if u.spec.kind == "probe" or (u.spec.kind == "train" and u.spec.generation < 2)]
    searching = view.model_copy(update={"units": first})
    known = {t.number for u in first for t in u.spec.trials}
    found = plan(without(searching, max(known)))
    assert isinstance(found, Plan)
    assert min(t.number for unit in found.units for t in unit.trials) == max(known) + 1
