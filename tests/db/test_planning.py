"""Plans are written once, from what is true now, and end in one answer."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from optim_core.spec.errors import IllegalTransition
from optim_core.spec.states import StudyState, TrialState, UnitState
from service.db import Database
from service.db.models import Unit
from service.db.repositories import StudyRepository
from service.db.repositories.studies import PLANNING_S, uncovered
from service.operations import events, planning, queue, studies
from service.operations.errors import Conflict
from tests.db.support import (
    claim,
    make_probe,
    make_recommendation,
    make_result,
    make_spec,
    make_unit,
    planner_turn,
    study_with_units,
)


def test_a_replayed_plan_inserts_nothing(database: Database) -> None:
    units = [make_unit("a", [0, 1]), make_unit("b", [2])]
    study_id = study_with_units(database, units)
    told = events.events_after(database, study_id, 0)
    assert planning.apply_plan(database, study_id, units, "again") == 0
    assert planning.apply_plan(database, study_id, [*units, make_unit("c", [3])], "more") == 1
    assert studies.get_study(database, study_id).progress.trials_planned == 4
    assert [event.type for event in events.events_after(database, study_id, told[-1].id)] == ["stage"]


def test_the_view_is_what_was_stored(database: Database) -> None:
    units = [make_unit("a", [0, 1]), make_unit("b", [2])]
    study_id = study_with_units(database, units)
    got = claim(database)
    result = make_result(got.unit, diverged=(1,), probe=make_probe())
    assert queue.complete_unit(database, got.unit_id, got.token, result)
    view = planning.study_view(database, study_id)
    assert (view.study_id, view.spec) == (study_id, make_spec())
    assert [(unit.spec, unit.state) for unit in view.units] == [
        (units[0], UnitState.DONE),
        (units[1], UnitState.QUEUED),
    ]
    bare = result.model_copy(update={"trials": [t.model_copy(update={"curve": []}) for t in result.trials]})
    assert view.units[0].result == bare
    study = studies.get_study(database, study_id)
    assert (study.metric, study.direction) == ("f1", "maximize")


def test_elapsed_time_is_the_union_of_runs_and_device_time_their_sum(database: Database) -> None:
    study_id = study_with_units(database, [make_unit(f"u{i}", [i]) for i in range(7)])
    # Before the last one the study was planned on; before the one before that nobody worked on it.
    runs = [(10.0, 20.0), (12.0, 14.0), (18.0, 25.0), (40.0, 41.0), (42.5, 43.0)]
    with database.write() as session:
        for i, (start, _) in enumerate(runs):
            session.execute(update(Unit).where(Unit.key == f"u{i}").values(claimed_at=start))
    with database.write() as session:
        repository = StudyRepository(session)
        study = repository.lock(study_id)
        assert study is not None
        for i, (start, end) in sorted(enumerate(runs), key=lambda each: each[1][1]):
            # As it was at that moment: those that had begun and not ended are leased.
            for k, (began, ended) in enumerate(runs):
                state = "leased" if began < end < ended else "done"
                session.execute(update(Unit).where(Unit.key == f"u{k}").values(state=state))
            session.execute(update(Unit).where(Unit.key == f"u{i}").values(state="done"))
            repository.add_run(study, start, end)
    view = planning.study_view(database, study_id)
    assert (view.elapsed_s, view.device_s) == (pytest.approx(18.0), pytest.approx(20.5))
    began = time.monotonic()
    claim(database)
    claim(database)
    time.sleep(0.2)
    live = planning.study_view(database, study_id)
    # However long that took: the database's clock may be read a little otherwise than ours.
    most = time.monotonic() - began + 0.1
    assert 18.2 <= live.elapsed_s <= 18.0 + most
    assert 20.9 <= live.device_s <= 20.5 + 2 * most
    listed = studies.list_studies(database).items[0].progress.elapsed_s
    assert live.elapsed_s <= listed <= 18.0 + time.monotonic() - began + 0.1


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12))
def test_what_runs_add_one_by_one_is_their_union(lengths: list[tuple[int, int]]) -> None:
    runs = [(float(start), float(start + length)) for start, length in lengths]
    until, elapsed = None, 0.0
    in_order = sorted(runs, key=lambda run: run[1])
    for place, (start, end) in enumerate(in_order):
        running = [began for began, _ in in_order[place + 1 :] if began < end]
        elapsed += uncovered(until, min([start, *running]), end)
        until = end
    covered: set[int] = set()
    for start, end in runs:
        covered |= set(range(int(start), int(end)))
    # Gaps of two seconds and less are of the study, too.
    seconds = sorted(covered)
    gaps = [later - before - 1 for before, later in itertools.pairwise(seconds)]
    assert elapsed == len(covered) + sum(gap for gap in gaps if gap <= PLANNING_S)


def test_a_promoted_trial_keeps_its_result_until_the_next_rung_is_done(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("r0", [0, 1])])
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert planning.apply_plan(database, study_id, [make_unit("r1", [1], rung=1)], "promote") == 1
    waiting = studies.get_trial(database, study_id, 1)
    assert (waiting.state, waiting.rung, waiting.metric) == (TrialState.WAITING, 0, 0.99)
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert studies.get_trial(database, study_id, 1).rung == 1
    assert studies.get_study(database, study_id).progress.trials_done == 2
    assert planning.finish_study(database, study_id, make_recommendation(study_id))
    assert [t.state for t in studies.list_trials(database, study_id).items] == ["pruned", "completed"]


def test_a_plan_that_trains_a_diverged_trial_again_is_refused_whole(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit, diverged=(0,)))
    with pytest.raises(IllegalTransition):
        planning.apply_plan(database, study_id, [make_unit("b", [5]), make_unit("c", [0], rung=1)], "wrong")
    assert [unit.spec.key for unit in planning.study_view(database, study_id).units] == ["a"]


def waiting(database: Database) -> list[str]:
    return [study_id for study_id, waits in planning.active_studies(database).items() if waits]


def test_news_ask_for_a_plan_until_a_planner_has_seen_them(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    assert waiting(database) == [study_id]
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        assert turn.apply_plan([make_unit("a", [0]), make_unit("b", [1])], "start")
    assert waiting(database) == []
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert waiting(database) == [study_id] == queue.sweep(database).to_advance
    with planner_turn(database, study_id) as turn:
        assert turn is not None  # nothing decided: b still runs
    assert waiting(database) == []


def test_news_that_arrive_while_planning_are_not_lost(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0]), make_unit("b", [1])])
    with planner_turn(database, study_id):
        got = claim(database)
        assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert waiting(database) == [study_id]


def test_of_two_planners_at_once_one_decides(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    with (
        planner_turn(database, study_id) as one,
        planner_turn(database, study_id) as two,
    ):
        assert one is not None
        assert two is not None
        assert one.apply_plan([make_unit("a", [0])], "one")
        assert not two.apply_plan([make_unit("b", [0])], "two")
    with planner_turn(database, study_id) as late:
        studies.cancel_study(database, study_id)
        assert late is not None
        assert not late.finish(make_recommendation(study_id))
        assert not late.fail("x", "y")
    with planner_turn(database, study_id) as none:
        assert none is None


def advance_often(url: str, study_id: str, start: Any, out: Any) -> None:
    db = Database(url)
    start.wait()
    won = 0
    for _ in range(15):
        with planner_turn(db, study_id) as turn:
            if turn is not None:
                n = len(turn.view.units)
                won += turn.apply_plan([make_unit(f"round-{n}", [n])], f"round {n}")
    out.put(won)
    db.dispose()


def test_four_planners_in_a_loop_never_make_a_round_twice(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    context = multiprocessing.get_context("spawn")
    start, out = context.Event(), context.Queue()
    arguments = (database.url, study_id, start, out)
    processes = [context.Process(target=advance_often, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    won = sum(out.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(30)
    keys = [unit.spec.key for unit in planning.study_view(database, study_id).units]
    assert keys == [f"round-{n}" for n in range(won)]
    assert studies.get_study(database, study_id).progress.trials_planned == won


def test_the_answer_is_stored_once_and_given_back_equal(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    with pytest.raises(Conflict) as caught:
        studies.get_recommendation(database, study_id)
    assert caught.value.code == "not_ready"
    answer = make_recommendation(study_id)
    assert planning.finish_study(database, study_id, answer)
    assert not planning.finish_study(database, study_id, answer)
    assert studies.get_recommendation(database, study_id) == answer
    study = studies.get_study(database, study_id)
    assert (study.status, study.verdict, study.winner) == (StudyState.COMPLETED, "better", "lion")
    assert (study.progress.fraction, study.progress.stage) == (1.0, "done")
    assert [event.type for event in events.events_after(database, study_id, 0)][-2:] == [
        "recommendation",
        "study.state",
    ]


def test_a_failed_plan_gives_the_reason_instead_of_an_answer(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    assert planning.fail_study(database, study_id, "all_trials_failed", "every trial diverged")
    assert not planning.fail_study(database, study_id, "x", "y")
    with pytest.raises(Conflict, match="every trial diverged") as caught:
        studies.get_recommendation(database, study_id)
    assert caught.value.code == "study_failed"
