"""What a search does with many workers: nobody waits, and more can be compared in the same time."""

from __future__ import annotations

from collections import Counter

from optim_core.search import Plan, plan
from optim_core.search.budget import comparing_s, competing, surely_beside
from optim_core.spec.states import UnitState
from optim_core.spec.trial import StudyView, UnitSpec, UnitView
from tests.unit.study_simulator import bowl, probe_report, simulate, spec

TRUTH = bowl({"adamw": (0.003, 1.0), "sgd": (0.3, 1.2), "lion": (0.0003, 0.8)})


def start(**changes) -> StudyView:
    """A study whose probe is done."""
    view, _ = simulate(spec(**changes), TRUTH, until="train")
    return view


def with_units(view: StudyView, units: list[UnitSpec], state: UnitState = UnitState.QUEUED) -> StudyView:
    return view.model_copy(update={"units": [*view.units, *(UnitView(spec=u, state=state) for u in units)]})


def first_plan(workers: int, **budget: float) -> list[UnitSpec]:
    view = start(budget=budget).model_copy(update={"workers": workers})
    step = plan(view)
    assert isinstance(step, Plan)
    return step.units


def test_a_cluster_looks_everywhere_while_nothing_is_known() -> None:
    units = first_plan(40, seconds=1000.0)
    assert {u.generation for u in units} == {0, 1}
    assert len(units) >= 38, "of 40 workers"
    of_one = [t for u in units for t in u.trials if t.origin == "random"]
    tried = Counter(t.configuration.optimizer for t in of_one)
    assert len(tried) == len({t.configuration.optimizer for u in units for t in u.trials}), "all that compete"
    assert max(tried.values()) - min(tried.values()) <= 1
    rates = sorted(float(t.configuration.hyperparameters["lr"]) for t in of_one if t.configuration.optimizer == "adamw")
    assert rates[-1] / rates[0] > 100.0
    assert {u.rung for u in units if any(t.origin == "random" for t in u.trials)} == {0}


def test_one_machine_and_what_costs_more_than_time_wait_for_what_they_learn() -> None:
    few = [sorted(u.key for u in first_plan(workers, seconds=1000.0)) for workers in (1, 2)]
    assert few[0] == few[1]
    for budget in ({"trials": 5000}, {"device_seconds": 1000.0}, {"seconds": 1000.0, "train_steps": 10**7}):
        assert not any(t.origin == "random" for u in first_plan(40, **budget) for t in u.trials)


def test_in_a_budget_by_the_clock_a_cluster_compares_what_one_worker_could_not() -> None:
    probe, names = probe_report(), spec().search.included()
    short = {"seconds": 0.3 * comparing_s(spec(), probe)}
    assert competing(spec(budget=short), probe) == ["adamw"]
    assert competing(spec(budget=short), probe, 16) == names
    # Seconds of devices are the same however many there are, and one training is no shorter.
    assert competing(spec(budget={"device_seconds": short["seconds"]}), probe, 16) == ["adamw"]
    assert competing(spec(budget={"seconds": probe.full_horizon * probe.pack_step_s}), probe, 1000) == ["adamw"]
    view = start(budget=short)
    found = []
    for workers in (1, 64):
        step = plan(view.model_copy(update={"workers": workers}))
        assert isinstance(step, Plan)
        # It is settled then: who leaves or joins later changes neither the optimizers nor the rungs.
        later = with_units(view, step.units, UnitState.QUEUED).model_copy(update={"workers": 65 - workers})
        found.append((surely_beside(view.model_copy(update={"workers": workers})), surely_beside(later)))
        assert len({t.configuration.optimizer for u in step.units for t in u.trials}) == (
            1 if workers == 1 else len(names)
        )
    assert found == [(1, 1), (16, 16)]
