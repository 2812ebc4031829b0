"""Finishing a study early, what is said on the way, and which workers a plan counts on; on both databases."""

from __future__ import annotations

import pytest

from optim_core.spec.problem import Budget
from optim_core.spec.states import StudyState, TrialState, UnitState
from service.db import Database
from service.operations import planning, queue, studies
from service.operations.errors import Conflict
from service.operations.events import events_after
from tests.db.support import (
    claim,
    make_recommendation,
    make_result,
    make_spec,
    make_unit,
    planner_turn,
    study_with_units,
)


def done(database: Database) -> None:
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))


def states(database: Database, study_id: str) -> dict[str, UnitState]:
    return {unit.spec.key: unit.state for unit in planning.study_view(database, study_id).units}


def test_there_is_nothing_to_finish_before_a_trial_has_ended(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    with pytest.raises(Conflict) as caught:
        studies.finish_study(database, study_id)
    assert caught.value.code == "nothing_to_finish"
    assert not planning.study_view(database, study_id).finishing


def test_finishing_drops_the_search_and_keeps_what_it_found(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0, 1]), make_unit("b", [2]), make_unit("c", [3])])
    done(database)
    planning.apply_plan(database, study_id, [make_unit("up", [0], rung=1)], "promote")
    running = claim(database)
    assert studies.finish_study(database, study_id).progress.finishing
    view = planning.study_view(database, study_id)
    assert view.finishing
    assert states(database, study_id) == {"a": "done", "b": "cancelled", "c": "cancelled", "up": "cancelled"}
    assert queue.heartbeat(database, running.unit_id, running.token, 60) == "stop"
    assert not queue.complete_unit(database, running.unit_id, running.token, make_result(running.unit))
    trials = {t.number: t for t in studies.list_trials(database, study_id).items}
    assert {n: t.state for n, t in trials.items()} == {
        0: TrialState.COMPLETED, 1: TrialState.COMPLETED, 2: TrialState.CANCELLED, 3: TrialState.CANCELLED,
    }  # fmt: skip
    assert trials[0].metric == 1.0
    # A planner is asked to go on, and may.
    assert planning.active_studies(database) == {study_id: True}
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        assert turn.apply_plan([make_unit("confirm", [4], stage="confirm")], "confirm")
    done(database)
    assert planning.finish_study(database, study_id, make_recommendation(study_id))
    assert studies.finish_study(database, study_id).status == StudyState.COMPLETED


def test_finishing_keeps_a_first_look_and_drops_a_second(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    done(database)
    looks = [make_unit("one", [1], stage="confirm"), make_unit("two", [2], stage="confirm", rung=1)]
    planning.apply_plan(database, study_id, looks, "confirm")
    studies.finish_study(database, study_id)
    assert states(database, study_id) == {"a": "done", "one": "queued", "two": "cancelled"}


def test_a_paused_study_goes_on_to_be_finished(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    done(database)
    studies.pause_study(database, study_id)
    assert studies.finish_study(database, study_id).status == StudyState.QUEUED
    again = studies.finish_study(database, study_id)
    assert again.progress.finishing
    assert [e.data for e in events_after(database, study_id, 0, 100) if e.type == "study.state"][-2:] == [
        {"state": "paused"}, {"state": "queued"},
    ]  # fmt: skip


def finishing_in(database: Database, state: str) -> str:
    """A study that was asked to finish, and then came into ``state``."""
    study_id = study_with_units(database, [make_unit("a", [0]), make_unit("b", [1])])
    done(database)
    studies.finish_study(database, study_id)
    planning.apply_plan(database, study_id, [make_unit("confirm", [2], stage="confirm")], "confirm")
    if state in ("paused", "queued"):
        studies.pause_study(database, study_id)
    if state == "queued":
        studies.resume_study(database, study_id)
    elif state == "running":
        claim(database, study_id)
    elif state == "cancelled":
        studies.cancel_study(database, study_id)
    elif state == "failed":
        got = claim(database, study_id)
        queue.fail_unit(database, got.unit_id, got.token, "broken", "it broke", retryable=False)
    elif state == "completed":
        assert planning.finish_study(database, study_id, make_recommendation(study_id))
    assert studies.get_study(database, study_id).status == state
    return study_id


# What a request makes of a study that is finishing: the new state, or the code of the refusal.
FINISHING = {
    ("finish", "queued"): "queued", ("finish", "running"): "running", ("finish", "paused"): "queued",
    ("finish", "failed"): "failed", ("finish", "cancelled"): "cancelled", ("finish", "completed"): "completed",
    ("pause", "queued"): "paused", ("pause", "running"): "paused", ("pause", "paused"): "paused",
    ("pause", "failed"): "study_ended", ("pause", "cancelled"): "study_ended", ("pause", "completed"): "study_ended",
    ("resume", "queued"): "already_running", ("resume", "running"): "already_running", ("resume", "paused"): "queued",
    ("resume", "failed"): "queued", ("resume", "cancelled"): "study_ended", ("resume", "completed"): "study_ended",
    ("cancel", "queued"): "cancelled", ("cancel", "running"): "cancelled", ("cancel", "paused"): "cancelled",
    ("cancel", "failed"): "failed", ("cancel", "cancelled"): "cancelled", ("cancel", "completed"): "completed",
}  # fmt: skip
REQUESTS = {
    "finish": studies.finish_study, "pause": studies.pause_study, "resume": studies.resume_study,
    "cancel": studies.cancel_study,
}  # fmt: skip


@pytest.mark.parametrize(("request_name", "state"), FINISHING)
def test_every_request_to_a_study_that_is_finishing(database: Database, request_name: str, state: str) -> None:
    study_id = finishing_in(database, state)
    try:
        found = REQUESTS[request_name](database, study_id).status.value
    except Conflict as refused:
        found = refused.code
    assert found == FINISHING[request_name, state]
    after = studies.get_study(database, study_id)
    # It is on its way to an early answer exactly while it may still come there.
    assert after.progress.finishing == (after.status in ("queued", "running", "paused"))
    if after.status == "queued":
        assert planning.active_studies(database) == {study_id: True} or state == "queued"
        # What waits is the confirmation, and nothing of the search.
        assert claim(database, study_id).unit.key == "confirm"


def test_what_the_planner_says_is_part_of_the_progress(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    assert studies.get_study(database, study_id).progress.standing is None
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        turn.forecast = {"sentence": "buys much", "enough": True}
        assert turn.apply_plan([make_unit("a", [0])], "start")
    done(database)
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        turn.standing = {"sentence": "gains much"}
    progress = studies.get_study(database, study_id).progress
    assert progress.forecast == {"sentence": "buys much", "enough": True}
    assert progress.standing == {"sentence": "gains much"}


def test_a_plan_counts_on_the_workers_that_are_alive(database: Database) -> None:
    spec = make_spec()
    study_id = studies.create_study(database, spec).id
    assert planning.study_view(database, study_id).workers == 1
    for name in ("one", "two", "three"):
        queue.worker_seen(database, name)
    assert planning.study_view(database, study_id).workers == 3
    queue.worker_gone(database, "two")
    queue.worker_gone(database, "nobody")
    assert planning.study_view(database, study_id).workers == 2
    limited = spec.model_copy(update={"budget": Budget(trials=16, workers=1)})
    assert planning.study_view(database, studies.create_study(database, limited).id).workers == 1


def test_a_view_is_the_same_whoever_looked_before(database: Database) -> None:
    first = study_with_units(database, [make_unit("a", [0]), make_unit("b", [1])])
    done(database)
    before = planning.study_view(database, first)
    second = study_with_units(database, [make_unit("a", [5])])
    assert [u.spec.key for u in planning.study_view(database, second).units] == ["a"]
    again = planning.study_view(database, first)
    assert [u.model_dump() for u in again.units] == [u.model_dump() for u in before.units]
    done(database)
    assert [u.state for u in planning.study_view(database, first).units] == ["done", "done"]


def test_an_answer_of_an_older_version_is_said_to_be_one(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    done(database)
    assert planning.finish_study(database, study_id, make_recommendation(study_id))
    from service.db.models import StoredRecommendation

    with database.write() as session:
        stored = session.get(StoredRecommendation, study_id)
        assert stored is not None
        stored.document = {"schema": "whichopt.recommendation/1", "summary": "of before"}
    with pytest.raises(Conflict) as caught:
        studies.get_recommendation(database, study_id)
    assert caught.value.code == "answer_outdated"
