"""Leaving a trial out, on both databases: who may, what changes, and the study that is answered anew."""

from __future__ import annotations

import pytest

from optim_core.spec.states import StudyState
from service.db import Database
from service.operations import planning, queue, studies
from service.operations.errors import ServiceError
from service.operations.events import events_after
from service.operations.excluding import exclude_trial
from tests.api.api_support import CountingDispatcher, check_problem, make_client
from tests.db.support import claim, make_recommendation, make_result, make_unit, planner_turn, study_with_units


def done(database: Database) -> None:
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))


def finished(database: Database) -> str:
    study = study_with_units(database, [make_unit("a", [0, 1])])
    done(database)
    planning.apply_plan(database, study, [make_unit("one", [2, 3], stage="confirm")], "confirm")
    done(database)
    assert planning.finish_study(database, study, make_recommendation(study))
    return study


def test_a_finished_study_is_answered_anew(database: Database) -> None:
    study = finished(database)
    assert studies.get_study(database, study).progress.best is not None
    left = exclude_trial(database, study, 0, "the power failed")
    assert left.excluded == "the power failed"
    seen = studies.get_study(database, study)
    assert (seen.status, seen.verdict, seen.winner, seen.finished_at) == (StudyState.RUNNING, None, None, None)
    assert seen.progress.best is not None
    assert seen.progress.best.value == 0.99
    with pytest.raises(ServiceError) as refused:
        studies.get_recommendation(database, study)
    assert refused.value.code == "not_ready"
    assert planning.active_studies(database) == {study: True}
    with planner_turn(database, study) as turn:
        assert turn is not None
        assert turn.view.excluded == frozenset({0})
        assert turn.finish(make_recommendation(study))
    assert studies.get_study(database, study).status == StudyState.COMPLETED
    assert studies.get_recommendation(database, study).verdict == "better"
    assert [e.data for e in events_after(database, study, 0) if e.type == "trial.excluded"] == [
        {"number": 0, "reason": "the power failed"}
    ]
    assert [curve.number for curve in studies.curves(database, study)] == [1]
    # Once more only the reason changes.
    assert exclude_trial(database, study, 0, "the fan failed").excluded == "the fan failed"
    assert studies.get_trial(database, study, 0).excluded == "the fan failed"
    assert studies.get_study(database, study).status == StudyState.COMPLETED


@pytest.mark.parametrize("ends", ["cancelled", "failed"])
def test_a_study_that_ends_before_it_is_answered_anew_keeps_the_older_answer_and_says_so(
    database: Database, ends: str
) -> None:
    study = finished(database)
    notes = studies.get_recommendation(database, study).notes
    exclude_trial(database, study, 0, "x")
    if ends == "cancelled":
        studies.cancel_study(database, study)
    else:
        planning.fail_study(database, study, "internal", "broken")
    seen = studies.get_study(database, study)
    assert (seen.status, seen.verdict, seen.winner) == (StudyState(ends), "better", "lion")
    answer = studies.get_recommendation(database, study)
    assert answer.verdict == "better"
    assert answer.notes[1:] == notes
    assert answer.notes[0].startswith(studies.OLDER_ANSWER)
    assert ends in answer.notes[0]
    page = make_client(database).get(f"/studies/{study}").text
    assert studies.OLDER_ANSWER in page


def test_a_plan_made_from_an_older_view_is_refused(database: Database) -> None:
    study = study_with_units(database, [make_unit("a", [0, 1])])
    done(database)
    with planner_turn(database, study) as turn:
        assert turn is not None
        exclude_trial(database, study, 0, "x")
        assert not turn.apply_plan([make_unit("b", [0], rung=1)], "promote")
    assert planning.active_studies(database) == {study: True}


def test_what_cannot_be_left_out(database: Database) -> None:
    study = study_with_units(database, [make_unit("a", [0]), make_unit("one", [2], stage="confirm")])
    for number, code in ((0, "trial_not_ended"), (9, "trial_not_found"), (2**40, "trial_not_found")):
        with pytest.raises(ServiceError) as refused:
            exclude_trial(database, study, number, "x")
        assert refused.value.code == code
    done(database)
    done(database)
    with pytest.raises(ServiceError) as refused:
        exclude_trial(database, study, 2, "x")
    assert refused.value.code == "nothing_left"
    for reason in ("", "   ", "a\0b", "x" * 501, "a\u202eb"):
        with pytest.raises(ServiceError) as refused:
            exclude_trial(database, study, 0, reason)
        assert refused.value.code == "invalid_reason"
    studies.cancel_study(database, study)
    with pytest.raises(ServiceError) as refused:
        exclude_trial(database, study, 0, "x")
    assert refused.value.code == "study_cancelled"
    assert studies.get_trial(database, study, 0).excluded is None


def test_the_api_and_the_pages_show_it(database: Database) -> None:
    study, dispatcher = finished(database), CountingDispatcher()
    client = make_client(database, dispatcher)
    path = f"/v1/studies/{study}/trials/1/exclude"
    wrong = [({}, "field_required"), ({"reason": 1}, "invalid_value"), ({"reason": "x", "more": 1}, "unknown_field")]
    for body, code in wrong:
        check_problem(client.post(path, json=body), 422, code)
    answer = client.post(path, json={"reason": "<b>odd</b>"})
    assert answer.status_code == 200
    assert answer.json()["excluded"] == "<b>odd</b>"
    assert dispatcher.rung == ["control"]
    page = client.get(f"/studies/{study}").text
    assert "left out" in page
    assert "&lt;b&gt;odd" in page
    assert "left out: &lt;b&gt;odd" in client.get(f"/studies/{study}/trials/1").text
