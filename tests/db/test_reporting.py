"""Reports written together: the same answers and curves as one after the other, and nobody waits for a stranger's lock."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from service.db import Database
from service.db.models import Unit
from service.operations import asking, planning, queue, reporting, studies
from service.operations.asking import Lease
from service.operations.errors import ServiceError
from service.operations.reporting import Point, Report
from service.operations.views import AskedTrial
from tests.db.support import make_unit
from tests.db.test_asking import external

LEASE = Lease(60.0, 15.0)
TRIALS = 4


def study(db: Database) -> tuple[str, list[AskedTrial]]:
    """A study of four trials: two are held, one ended, one is another client's by now."""
    study_id = studies.create_study(db, external()).id
    planning.apply_plan(db, study_id, [make_unit(f"u{i}", [i]) for i in range(TRIALS)], "test")
    trials = []
    for i in range(TRIALS):
        trial = asking.ask(db, study_id, f"client-{i}", LEASE).trial
        assert trial is not None
        trials.append(trial)
    asking.tell(db, study_id, 2, "client-2", trials[2].token, value=0.5)
    unit, _, fence = trials[3].token.partition(".")
    queue.release_unit(db, int(unit), int(fence))
    assert asking.ask(db, study_id, "heir", LEASE).trial is not None
    return study_id, trials


numbers = st.one_of(st.none(), st.floats(-5, 5), st.just(math.nan), st.just(1e300))
points = st.builds(Point, st.integers(-1, 101), numbers, numbers)
one = st.tuples(st.integers(0, TRIALS - 1), st.integers(0, TRIALS - 1), st.booleans(), st.lists(points, max_size=3))


def known(db: Database, study_id: str) -> list[Any]:
    with db.read() as session:
        query = select(Unit).where(Unit.study_id == study_id).order_by(Unit.id)
        units = [(unit.step, unit.state, unit.fence) for unit in session.scalars(query)]
    curves = [[(p.step, p.loss, p.value) for p in studies.get_trial(db, study_id, n).curve] for n in range(TRIALS)]
    seen = sorted(client.id for client in asking.clients(db, study_id))
    return [units, curves, seen, studies.get_study(db, study_id).progress.trials_done]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reports=st.lists(one, min_size=2, max_size=8))
def test_reports_written_together_are_as_if_written_one_by_one(sqlite: Database, reports: list[Any]) -> None:
    of_each = []
    for together in (False, True):
        study_id, trials = study(sqlite)
        told = [
            Report(study_id, number, f"client-{client}", trials[number].token if valid else "999999.1", found)
            for number, client, valid, found in reports
        ]
        # Whatever ends a trial goes by itself, after those that came with it: told alone, it is told last, too.
        told = [r for r in told if r.alive] + [r for r in told if not r.alive]
        if together:
            answers = reporting.report_all(sqlite, told, LEASE.lease_s)
        else:
            answers = [reporting.report_all(sqlite, [r], LEASE.lease_s)[0] for r in told]
        plain = [(a.code, a.status) if isinstance(a, ServiceError) else a for a in answers]
        of_each.append((plain, known(sqlite, study_id)))
    assert of_each[0] == of_each[1]


def test_a_report_that_is_refused_spoils_no_other(database: Database) -> None:
    study_id, trials = study(database)
    mine = [Report(study_id, i, f"client-{i}", trials[i].token, [Point(7 + i, 0.5)]) for i in range(2)]
    wrong = Report(study_id, 0, "client-0", "999999.1", [Point(8, 0.1)])
    outside = Report(study_id, 1, "client-1", trials[1].token, [Point(9, 0.1), Point(101, 0.1)])
    broken = Report(study_id, 0, "client-0", trials[0].token, [Point(9, math.nan)])
    late = Report(study_id, 3, "client-3", trials[3].token, [Point(9, 0.1)])
    answers = reporting.report_all(database, [wrong, mine[0], outside, broken, mine[1], late], 60.0)
    said = [answer.code if isinstance(answer, ServiceError) else answer.reason for answer in answers]
    assert said == ["trial_not_asked", None, "step_out_of_range", "diverged", None, "lease_lost"]
    curves = [[p.step for p in studies.get_trial(database, study_id, n).curve] for n in range(TRIALS)]
    assert curves == [[7], [8, 9], [], []]
    assert studies.get_trial(database, study_id, 0).diverged_at_step == 9
    ages = {client.id: client.age_s for client in asking.clients(database, study_id)}
    assert set(ages) == {"client-0", "client-1", "client-2", "client-3", "heir"}


def test_a_client_that_was_forgotten_is_known_again(database: Database) -> None:
    study_id, trials = study(database)
    queue.worker_gone(database, f"{study_id}:client-1")
    told = [Report(study_id, i, f"client-{i}", trials[i].token) for i in range(2)]
    assert [answer.go_on for answer in reporting.report_all(database, told, 60.0)]  # type: ignore[union-attr]
    assert {"client-0", "client-1"} <= {c.id for c in asking.clients(database, study_id) if c.age_s is not None}


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_while_somebody_has_one_unit_locked_the_others_are_written(database: Database) -> None:
    study_id, trials = study(database)
    told = [Report(study_id, i, f"client-{i}", trials[i].token, [Point(5, 0.5)]) for i in range(2)]
    answers: list[Any] = []
    with database.write() as session:
        locked = int(trials[0].token.split(".")[0])
        session.execute(select(Unit.id).where(Unit.id == locked).with_for_update())
        thread = threading.Thread(target=lambda: answers.extend(reporting.report_all(database, told, 60.0)))
        thread.start()
        while not studies.get_trial(database, study_id, 1).curve:
            assert thread.is_alive()
        assert not answers
    thread.join(60)
    assert [answer.go_on for answer in answers] == [True, True]
    assert [p.step for p in studies.get_trial(database, study_id, 0).curve] == [5]


def test_a_report_without_a_number_says_only_how_far_the_run_is(database: Database) -> None:
    study_id, trials = study(database)
    token = trials[0].token
    for told in ([Point(3)], [Point(4, loss=0.5), Point(5)]):
        assert reporting.report(database, Report(study_id, 0, "client-0", token, told), 60.0).go_on
    assert [(p.step, p.loss, p.value) for p in studies.get_trial(database, study_id, 0).curve] == [(4, 0.5, None)]
    with database.read() as session:
        assert session.scalar(select(Unit.step).where(Unit.study_id == study_id).order_by(Unit.id).limit(1)) == 5


def test_a_long_curve_that_is_told_in_any_order_keeps_its_peaks(database: Database) -> None:
    study_id = studies.create_study(database, external(model={"kind": "external", "steps": 5000})).id
    planning.apply_plan(database, study_id, [make_unit("u", [0]).model_copy(update={"horizon": 5000})], "test")
    asked = asking.ask(database, study_id, "me", LEASE).trial
    assert asked is not None
    steps = sorted(range(1, asked.steps + 1), key=lambda step: (step * 7919) % 4999)
    for begin in range(0, len(steps), 700):
        points = [Point(s, loss={17: 99.0, 4321: -99.0}.get(s, math.sin(s))) for s in steps[begin : begin + 700]]
        reporting.report(database, Report(study_id, asked.number, "me", asked.token, points), 60.0)
    curve = studies.get_trial(database, study_id, asked.number).curve
    assert 100 <= len(curve) <= 500
    assert (curve[0].step, curve[-1].step) == (1, asked.steps)
    told = {p.step: p.loss for p in curve}
    assert (told[17], told[4321]) == (99.0, -99.0)
    asking.tell(database, study_id, asked.number, "me", asked.token, value=0.5)
    assert {p.step: p.loss for p in studies.get_trial(database, study_id, asked.number).curve} == told
