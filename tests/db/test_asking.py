"""Ask, report, tell: late, twice, out of order, by others, after the end."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from optim_core.spec.rowscores import unpack
from optim_core.spec.states import StudyState, TrialState, UnitState
from optim_core.spec.trial import WORST_VALUE
from optim_core.spec.validation import parse_spec
from service.db import Database
from service.db.models import Unit, Worker
from service.operations import asking, planning, queue, reporting, studies
from service.operations.asking import Lease
from service.operations.errors import Conflict, NotFound, ServiceError
from service.operations.reporting import Point, Report
from service.operations.told_results import objective
from service.operations.views import AskedTrial
from tests.db.support import make_spec, make_unit, study_with_units

LEASE = Lease(60.0, 15.0)
SHORT = Lease(0.05, 0.01)


def external(**changes: Any):
    raw = {
        "model": {"kind": "external", "steps": 100}, "metric": "m", "metric_direction": "max", "budget": {"trials": 16},
        **changes,
    }  # fmt: skip
    return parse_spec(raw)


def open_study(db: Database, units: int = 3, stage: str = "search", **changes: Any) -> str:
    study_id = studies.create_study(db, external(**changes)).id
    planned = [make_unit(f"u{i}", [i], stage=stage) for i in range(units)]
    assert planning.apply_plan(db, study_id, planned, "test") == units
    return study_id


def asked(db: Database, study_id: str, client: str = "a", lease: Lease = LEASE) -> AskedTrial:
    found = asking.ask(db, study_id, client, lease).trial
    assert found is not None
    return found


def report(db: Database, study_id: str, trial: AskedTrial, *points: Point, client: str = "a"):
    return reporting.report(db, Report(study_id, trial.number, client, trial.token, points), LEASE.lease_s)


def tell(db: Database, study_id: str, trial: AskedTrial, value: float | None = 0.5, client: str = "a", **more: Any):
    return asking.tell(db, study_id, trial.number, client, trial.token, value=value, **more)


def curve(db: Database, study_id: str, number: int) -> list[tuple[int, float | None]]:
    return [(p.step, p.loss) for p in studies.get_trial(db, study_id, number).curve]


def test_a_client_gets_all_it_needs_and_the_same_again_while_it_holds_it(database: Database) -> None:
    study_id = open_study(database)
    first = asked(database, study_id)
    assert (first.number, first.steps, first.split, first.attempt, first.reported_step) == (0, 100, "validation", 1, 0)
    assert first.configuration["optimizer"] == "adamw"
    assert asked(database, study_id) == first
    other = asked(database, study_id, "b")
    assert other.number == 1
    assert studies.get_study(database, study_id).status == StudyState.RUNNING
    report(database, study_id, first, Point(40, 0.5))
    assert asked(database, study_id).reported_step == 40
    assert planning.study_view(database, study_id).workers == 2


def test_a_client_that_asks_for_what_it_holds_gives_a_sign_of_life(database: Database) -> None:
    study_id = open_study(database)
    asked(database, study_id)
    with database.write() as session:
        session.execute(update(Worker).values(last_seen=Worker.last_seen - 1000))
        session.execute(update(Unit).values(leased_at=Unit.leased_at - 1000))
    assert asking.clients(database, study_id)[0].age_s > 900  # type: ignore[operator]
    asked(database, study_id)
    assert asking.clients(database, study_id)[0].age_s < 900  # type: ignore[operator]


def test_engine_workers_and_clients_never_take_each_others_units(database: Database) -> None:
    open_study(database)
    engine = study_with_units(database, [make_unit("e", [0])])
    claim = queue.claim_unit(database, "worker", 60.0)
    assert claim is not None
    assert claim.study_id == engine
    assert queue.claim_unit(database, "worker", 60.0) is None
    assert queue.queue_stats(database).queued == 0
    with pytest.raises(Conflict) as refused:
        asking.ask(database, engine, "a", LEASE)
    assert refused.value.code == "not_external"
    assert planning.study_view(database, engine).workers == 1
    assert [w.id for w in queue.workers(database)] == ["worker"]


def test_what_is_told_is_the_result_and_told_again_the_same(database: Database) -> None:
    study_id = open_study(database)
    trial = asked(database, study_id)
    assert report(database, study_id, trial, Point(10, 1.0), Point(20, 0.9)).go_on
    told = tell(database, study_id, trial, 0.75, loss=0.3)
    assert (told.state, told.status) == (TrialState.COMPLETED, StudyState.RUNNING)
    assert tell(database, study_id, trial, 0.75) == told
    for other in ({"value": 0.1}, {"value": math.nan}, {"value": None, "failed": "no"}):
        with pytest.raises(Conflict, match=r"0\.75 was told of it before") as refused:
            tell(database, study_id, trial, **other)
        assert refused.value.code == "trial_finished"
    shown = studies.get_trial(database, study_id, 0)
    assert (shown.metric, shown.loss) == (0.75, 0.3)
    assert [(p.step, p.loss) for p in shown.curve] == [(10, 1.0), (20, 0.9)]
    study = studies.get_study(database, study_id)
    assert (study.metric, study.direction, study.progress.trials_done) == ("m", "maximize", 1)
    assert study.progress.best is not None
    assert study.progress.best.value == 0.75
    assert asked(database, study_id).number == 1


def test_after_the_end_everything_is_refused_and_changes_nothing(database: Database) -> None:
    study_id = open_study(database)
    trial = asked(database, study_id)
    tell(database, study_id, trial, 0.75)
    late = report(database, study_id, trial, Point(30, 0.1))
    assert (late.go_on, late.reason) == (False, "trial_finished")
    assert curve(database, study_id, 0) == []
    running = asked(database, study_id)
    studies.cancel_study(database, study_id)
    assert report(database, study_id, running, Point(5, 1.0)).reason == "cancelled"
    with pytest.raises(Conflict):
        tell(database, study_id, running)
    assert asking.ask(database, study_id, "a", LEASE).ended


def test_an_old_lease_is_refused_and_the_trial_is_given_out_once_more_only(database: Database) -> None:
    study_id = open_study(database, units=1)
    first = asked(database, study_id, "a", SHORT)
    reporting.report(database, Report(study_id, 0, "a", first.token, [Point(30, 0.7)]), SHORT.lease_s)
    time.sleep(0.1)
    assert [c.late for c in asking.clients(database, study_id)] == [True]
    assert len(queue.sweep(database).requeued) == 1
    second = asked(database, study_id, "b", SHORT)
    assert (second.number, second.attempt, second.reported_step, second.checkpoint) == (0, 2, 30, first.checkpoint)
    assert report(database, study_id, first, Point(40, 0.1)).reason == "lease_lost"
    with pytest.raises(Conflict) as refused:
        tell(database, study_id, first)
    assert refused.value.code == "lease_lost"
    assert curve(database, study_id, 0) == [(30, 0.7)]
    time.sleep(0.1)
    assert len(queue.sweep(database).failed) == 1
    # The study goes on without it: failed, the worst, and never a zombie.
    trial = studies.get_trial(database, study_id, 0)
    assert (trial.state, trial.metric, trial.objective) == (TrialState.FAILED, None, WORST_VALUE)
    assert studies.get_study(database, study_id).status == StudyState.RUNNING
    assert [u.state for u in planning.study_view(database, study_id).units] == [UnitState.DONE]
    assert asking.ask(database, study_id, "c", LEASE).wait is not None


def test_a_lease_that_ran_out_unnoticed_is_still_held(database: Database) -> None:
    study_id = open_study(database, units=1)
    trial = asked(database, study_id, "a", SHORT)
    time.sleep(0.1)
    assert tell(database, study_id, trial).state == TrialState.COMPLETED
    assert queue.sweep(database).requeued == []


def test_a_token_of_a_lower_rung_is_no_token_of_the_higher_one(database: Database) -> None:
    study_id = open_study(database, units=1)
    low = asked(database, study_id)
    tell(database, study_id, low, 0.5)
    planning.apply_plan(database, study_id, [make_unit("up", [0], rung=1)], "promote")
    high = asked(database, study_id)
    assert high.number == low.number
    assert high.token != low.token
    # Late and doubled: answered as before, and no result of the higher rung.
    assert tell(database, study_id, low, 0.5).state == TrialState.RUNNING
    with pytest.raises(Conflict):
        tell(database, study_id, low, 0.9)
    assert not report(database, study_id, low, Point(1, 0.1)).go_on
    assert studies.get_trial(database, study_id, 0).metric == 0.5
    tell(database, study_id, high, 0.6)
    assert (studies.get_trial(database, study_id, 0).rung, studies.get_trial(database, study_id, 0).metric) == (1, 0.6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200, -1e31])
def test_numbers_that_no_run_measures_are_a_divergence(database: Database, bad: float) -> None:
    study_id = open_study(database, units=2)
    first = asked(database, study_id)
    stop = report(database, study_id, first, Point(7, 1.0), Point(9, bad))
    assert (stop.go_on, stop.reason) == (False, "diverged")
    trial = studies.get_trial(database, study_id, 0)
    assert (trial.state, trial.diverged_at_step, trial.metric) == (TrialState.DIVERGED, 9, None)
    assert tell(database, study_id, first, bad).state == TrialState.DIVERGED
    with pytest.raises(Conflict, match="diverged"):
        tell(database, study_id, first, 0.5)
    second = asked(database, study_id)
    assert tell(database, study_id, second, bad).state == TrialState.DIVERGED


def test_a_failed_run_says_why_and_the_study_goes_on(database: Database) -> None:
    study_id = open_study(database, units=2)
    trial = asked(database, study_id)
    assert tell(database, study_id, trial, None, failed="CUDA out of memory").state == TrialState.FAILED
    with pytest.raises(Conflict, match="CUDA out of memory"):
        tell(database, study_id, trial, 0.5)
    assert asked(database, study_id).number == 1


def test_rows_are_kept_of_a_confirmation_and_have_to_be_the_metric(database: Database) -> None:
    study_id = open_study(database, units=2, stage="confirm")
    trial = asked(database, study_id)
    for rows in ([1.0, 0.0], [1e31, -1e31], [0.9], [math.nan, 0.9]):
        with pytest.raises(ServiceError) as refused:
            tell(database, study_id, trial, 0.9, rows=rows)
        assert refused.value.code == "rows_mismatch"
    tell(database, study_id, trial, 0.5, rows=[1.0, 0.0])
    [unit, _] = planning.study_view(database, study_id).units
    assert unit.result is not None
    assert list(unpack(unit.result.trials[0].rows["test"])) == [1.0, 0.0]


@pytest.mark.parametrize("step", [-1, 101, 2**40])
def test_steps_outside_the_run_are_refused_and_the_others_kept(database: Database, step: int) -> None:
    study_id = open_study(database)
    with pytest.raises(ServiceError) as refused:
        report(database, study_id, asked(database, study_id), Point(3, 0.5), Point(step, 1.0), Point(4, 0.4))
    assert refused.value.code == "step_out_of_range"
    assert curve(database, study_id, 0) == [(3, 0.5), (4, 0.4)]


def test_a_second_process_of_one_name_waits_while_the_first_lives_and_takes_over_when_it_is_gone(
    database: Database,
) -> None:
    study_id, quick = open_study(database, units=2), Lease(60.0, 0.05)
    first = asking.ask(database, study_id, "node", LEASE, "p1").trial
    assert first is not None
    assert asking.ask(database, study_id, "node", LEASE, "p1").trial == first
    other = asking.ask(database, study_id, "node", LEASE, "p2")
    assert (other.trial, other.in_use) == (None, True)
    # A client that does not say which process it is has what its name holds.
    assert asking.ask(database, study_id, "node", LEASE).trial == first
    assert asking.ask(database, study_id, "node", LEASE, "p1").trial == first
    time.sleep(0.2)
    heir = asking.ask(database, study_id, "node", quick, "p2").trial
    assert heir is not None
    assert (heir.number, heir.attempt) == (first.number, 1)
    assert report(database, study_id, first, Point(5, 0.1), client="node").reason == "lease_lost"
    assert report(database, study_id, heir, Point(6, 0.1), client="node").go_on


def test_a_trial_that_is_given_back_is_the_next_ones_and_costs_no_attempt(database: Database) -> None:
    study_id = open_study(database, units=1)
    trial = asked(database, study_id)
    report(database, study_id, trial, Point(30, 0.7))
    assert not asking.release(database, study_id, 0, "b", trial.token).released
    assert asking.release(database, study_id, 0, "a", trial.token).released
    assert not asking.release(database, study_id, 0, "a", trial.token).released
    heir = asked(database, study_id, "b")
    assert (heir.number, heir.attempt, heir.reported_step) == (0, 1, 30)
    assert report(database, study_id, trial, Point(31, 0.7)).reason == "lease_lost"


def test_the_price_is_there_when_a_study_is_made_and_failures_reach_the_planner(database: Database) -> None:
    study_id = open_study(database, units=2)
    forecast = studies.get_study(database, study_id).progress.forecast
    assert forecast is not None
    assert "16 trials of the search" in forecast["sentence"]
    tell(database, study_id, asked(database, study_id), None, failed="no GPU")
    tell(database, study_id, asked(database, study_id), 0.5)
    assert [u.error for u in planning.study_view(database, study_id).units] == ["no GPU", None]


@pytest.mark.parametrize("token", ["", "1", "1.", ".1", "x.y", "1.1.1", "9" * 20 + ".1", "1.²", "-1.1", "1.0x"])
def test_made_up_tokens_are_of_no_trial(database: Database, token: str) -> None:
    study_id = open_study(database)
    asked(database, study_id)
    with pytest.raises(NotFound):
        asking.tell(database, study_id, 0, "a", token, value=1.0)


def test_somebody_elses_token_is_of_no_use(database: Database) -> None:
    study_id, other = open_study(database), open_study(database)
    trial = asked(database, study_id)
    assert not report(database, study_id, trial, Point(1, 1.0), client="b").go_on
    with pytest.raises(Conflict):
        tell(database, study_id, trial, client="b")
    with pytest.raises(NotFound):
        asking.tell(database, other, trial.number, "a", trial.token, value=1.0)
    with pytest.raises(NotFound):
        asking.tell(database, study_id, 1, "a", trial.token, value=1.0)


def test_a_paused_study_gives_nothing_out_but_takes_what_is_told(database: Database) -> None:
    study_id = open_study(database)
    trial = asked(database, study_id)
    studies.pause_study(database, study_id)
    assert report(database, study_id, trial, Point(1, 1.0)).go_on
    found = asking.ask(database, study_id, "b", LEASE)
    assert found.trial is None
    assert found.wait is not None
    assert tell(database, study_id, trial).state == TrialState.COMPLETED
    studies.resume_study(database, study_id)
    assert asked(database, study_id, "b").number == 1


def test_deleting_a_study_forgets_its_clients(database: Database) -> None:
    study_id = open_study(database)
    asked(database, study_id)
    studies.cancel_study(database, study_id)
    studies.delete_study(database, study_id)
    with pytest.raises(NotFound):
        asking.clients(database, study_id)


def test_loss_and_metric_of_a_step_may_come_apart(database: Database) -> None:
    study_id = open_study(database)
    trial = asked(database, study_id)
    report(database, study_id, trial, Point(5, 1.0), Point(5, None, 0.3))
    report(database, study_id, trial, Point(5, 0.8))
    [point] = studies.get_trial(database, study_id, 0).curve
    assert (point.loss, point.value) == (0.8, 0.3)


POINTS = st.lists(st.tuples(st.integers(0, 20), st.floats(0, 10, allow_subnormal=False)), min_size=1, max_size=12)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=POINTS, cuts=st.lists(st.integers(0, 12), max_size=3), doubled=st.booleans(), late=POINTS)
def test_reports_in_any_order_and_number_leave_one_value_a_step(
    database: Database, points: list, cuts: list, doubled: bool, late: list
) -> None:
    study_id = open_study(database, units=1)
    trial = asked(database, study_id)
    ends = sorted({0, len(points), *(min(cut, len(points)) for cut in cuts)})
    for start, end in itertools.pairwise(ends):
        batch = [Point(step, loss) for step, loss in points[start:end]]
        for _ in range(1 + doubled):
            assert report(database, study_id, trial, *batch).go_on
    expected = sorted(dict(points).items())
    assert curve(database, study_id, 0) == expected
    assert asked(database, study_id).reported_step == expected[-1][0]
    tell(database, study_id, trial, 0.5)
    assert not report(database, study_id, trial, *(Point(step, loss) for step, loss in late)).go_on
    assert curve(database, study_id, 0) == expected
    studies.cancel_study(database, study_id)
    studies.delete_study(database, study_id)


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_an_objective_is_in_the_order_of_the_metric_and_never_as_bad_as_a_divergence(
    values: list[float], direction: str
) -> None:
    sign = 1 if direction == "minimize" else -1
    ordered = sorted(values, key=lambda v: sign * v)
    found = [objective("m", direction, v, None) for v in ordered]
    assert found == sorted(found)
    assert all(abs(x) < WORST_VALUE for x in found)


def test_specs_of_engines_are_as_before(database: Database) -> None:
    study = studies.create_study(database, make_spec())
    assert (study.model, study.dataset) == ("mlp", "digits")
    own = studies.create_study(database, external())
    assert (own.model, own.dataset, own.metric, own.direction) == ("own loop", "own data", "m", "maximize")
