"""Studies as people see them: created once, listed in pages, ended, removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text, update

from optim_core.spec.problem import FileDataset
from optim_core.spec.states import StudyState, TrialState
from service.db import Database, DatabaseUnavailable
from service.db.models import Base, Study
from service.operations import cursors, events, planning, queue, studies
from service.operations.errors import Conflict, NotFound, ServiceError
from tests.db.support import claim, make_point, make_result, make_spec, make_unit, study_with_units


def test_a_study_and_its_first_event_appear_together(database: Database) -> None:
    spec = make_spec(seed=7)
    made = studies.create_study(database, spec)
    assert made == studies.get_study(database, made.id)
    assert (made.status, made.model, made.dataset) == (StudyState.QUEUED, "mlp", "digits")
    assert (made.metric, made.direction) == ("accuracy", "maximize")
    assert made.spec == spec.model_dump(mode="json")
    assert abs(made.created_at - database.now()) < 60
    assert [(event.id, event.type, event.data) for event in events.events_after(database, made.id, 0)] == [
        (1, "study.state", {"state": "queued"})
    ]


def test_a_file_is_named_without_its_folder_and_its_metric_is_open(database: Database) -> None:
    spec = make_spec().model_copy(update={"dataset": FileDataset(path="/secret/people.csv", target="y")})
    made = studies.create_study(database, spec)
    assert (made.dataset, made.metric, made.direction) == ("people.csv", None, None)


def test_one_key_makes_one_study_however_many_threads_send_it(database: Database) -> None:
    def create(_: int) -> str:
        return studies.create_study(database, make_spec(), idempotency_key="once", request_hash="h").id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(create, range(20)))) == 1
    assert len(studies.list_studies(database).items) == 1


def test_a_key_with_another_request_is_refused(database: Database) -> None:
    first = studies.create_study(database, make_spec(), idempotency_key="k")
    assert studies.create_study(database, make_spec(), idempotency_key="k").id == first.id
    with pytest.raises(ServiceError) as caught:
        studies.create_study(database, make_spec(seed=1), idempotency_key="k")
    assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")
    assert studies.create_study(database, make_spec()).id != first.id


def test_pages_show_every_study_once_even_while_new_ones_arrive(database: Database) -> None:
    ids = [studies.create_study(database, make_spec(seed=i)).id for i in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = studies.list_studies(database, cursor=cursor, limit=3)
        seen += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        studies.create_study(database, make_spec())
    assert seen == ids[::-1]


def test_lists_filter(database: Database) -> None:
    kept = studies.create_study(database, make_spec()).id
    studies.cancel_study(database, studies.create_study(database, make_spec()).id)
    assert [item.id for item in studies.list_studies(database, status="queued").items] == [kept]
    assert len(studies.list_studies(database, model="mlp").items) == 2
    assert studies.list_studies(database, model="cnn").items == []
    with pytest.raises(ServiceError, match="status is one of"):
        studies.list_studies(database, status="asleep")


@pytest.mark.parametrize("by", ["number", "metric"])
def test_trials_are_paged_in_order(database: Database, by: str) -> None:
    units = [make_unit("u", [4, 3, 2]), make_unit("v", [0, 1]), make_unit("never", [5, 6])]
    study_id = study_with_units(database, units)
    for unit in units[:2]:
        got = claim(database)
        diverged = (2,) if unit.key == "u" else ()
        assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit, diverged))
    seen: list[int] = []
    cursor = None
    while True:
        page = studies.list_trials(database, study_id, sort=by, cursor=cursor, limit=1)
        seen += [trial.number for trial in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ([0, 1, 2, 3, 4, 5, 6] if by == "number" else [0, 1, 3, 4, 2, 5, 6])
    only = studies.list_trials(database, study_id, state="diverged").items
    assert [(trial.number, trial.metric, trial.diverged_at_step) for trial in only] == [(2, None, 3)]
    assert {t.number for t in studies.list_trials(database, study_id, optimizer="sgd").items} == {1, 4}


FOREIGN = cursors.encode("trials.number", 3)
HUGE = cursors.encode("trials.number", 2**70)


@pytest.mark.parametrize("cursor", ["", "%%%", "bm8", "W10", "eyJhIjoxfQ", "é", "A" * 5000, FOREIGN])
def test_a_cursor_that_no_list_gave_out_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(ServiceError) as caught:
        studies.list_studies(database, cursor=cursor)
    assert (caught.value.status, caught.value.code) == (422, "invalid_cursor")


def test_a_cursor_with_a_number_that_no_column_holds_is_refused(database: Database) -> None:
    made = studies.create_study(database, make_spec())
    with pytest.raises(ServiceError, match="cursor"):
        studies.list_trials(database, made.id, cursor=HUGE)
    with pytest.raises(NotFound):
        studies.get_trial(database, made.id, 2**70)
    for limit in (0, -1, 10**9):
        with pytest.raises(ServiceError) as caught:
            studies.list_trials(database, made.id, limit=limit)
        assert caught.value.code == "number_out_of_range"


def test_what_does_not_exist_is_not_found(database: Database) -> None:
    for call in (
        studies.get_study, studies.cancel_study, studies.pause_study, studies.resume_study, studies.delete_study,
        studies.list_trials, studies.curves, studies.get_recommendation, planning.study_view,
    ):  # fmt: skip
        with pytest.raises(NotFound) as caught:
            call(database, "0" * 32)
        assert caught.value.code == "study_not_found"
    with pytest.raises(NotFound):
        events.events_after(database, "0" * 32, 0)
    with pytest.raises(NotFound) as caught:
        studies.get_trial(database, studies.create_study(database, make_spec()).id, 0)
    assert caught.value.code == "trial_not_found"


def test_ending_twice_changes_nothing_and_ended_studies_do_not_go_on(database: Database) -> None:
    made = studies.create_study(database, make_spec())
    with pytest.raises(Conflict, match="queued"):
        studies.resume_study(database, made.id)
    ended = studies.cancel_study(database, made.id)
    assert studies.cancel_study(database, made.id) == ended
    for call, code in ((studies.resume_study, "study_ended"), (studies.pause_study, "study_ended"),
                       (studies.get_recommendation, "study_cancelled")):  # fmt: skip
        with pytest.raises(Conflict) as caught:
            call(database, made.id)
        assert (caught.value.status, caught.value.code) == (409, code)


def test_deleting_leaves_no_row_behind(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0]), make_unit("v", [1])])
    got = claim(database)
    queue.report_progress(database, got.unit_id, got.token, [(0, make_point(1))], 1)
    queue.save_checkpoint(database, got.unit_id, got.token, b"x")
    studies.create_study(database, make_spec(), idempotency_key="k")
    with pytest.raises(Conflict) as caught:
        studies.delete_study(database, study_id)
    assert caught.value.code == "study_running"
    for item in studies.list_studies(database).items:
        studies.cancel_study(database, item.id)
        studies.delete_study(database, item.id)
    with database.read() as session:
        left = {name: session.scalar(text(f"SELECT count(*) FROM {name}")) for name in Base.metadata.tables}
    # What the project has had of the workers is its own.
    assert left == {name: int(name in ("worker", "project", "device_use")) for name in left}


def test_live_points_show_while_a_unit_runs_and_the_committed_curve_replaces_them(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0, 1])])
    got = claim(database)
    for step in (10, 20):
        live = [(0, make_point(step)), (1, make_point(step))]
        assert queue.report_progress(database, got.unit_id, got.token, live, step)
    # An attempt that resumed tells a step again.
    assert queue.report_progress(database, got.unit_id, got.token, [(0, make_point(20, value=0.75))], 20)
    assert studies.get_trial(database, study_id, 0).curve == [make_point(10), make_point(20, value=0.75)]
    assert [curve.number for curve in studies.curves(database, study_id)] == [0, 1]
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert [point.step for point in studies.get_trial(database, study_id, 0).curve] == [50, 100]
    assert [event.type for event in events.events_after(database, study_id, 4)] == [
        "progress", "progress", "progress", "unit.done", "trial.done", "trial.done",
    ]  # fmt: skip


def test_long_curves_are_thinned_with_both_ends(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    got = claim(database)
    points = [(0, make_point(step)) for step in range(1, 2001)]
    assert queue.report_progress(database, got.unit_id, got.token, points, 2000)
    curve = studies.get_trial(database, study_id, 0).curve
    assert len(curve) == 210
    assert (curve[0].step, curve[-1].step) == (1, 2000)
    assert [p.step for p in curve] == sorted({p.step for p in curve})


def test_progress_counts_and_remembers_the_best_searched_value(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [1, 2]), make_unit("v", [3, 0])])
    for _ in range(2):
        got = claim(database)
        assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit, diverged=(2,)))
    progress = studies.get_study(database, study_id).progress
    assert (progress.trials_done, progress.trials_planned, progress.stage) == (4, 4, "search")
    assert progress.fraction == pytest.approx(0.8 * 4 / 16)
    assert progress.best is not None
    assert (progress.best.optimizer, progress.best.value) == ("adamw", 1.0)
    # Confirmation runs on another split: it never changes the best searched value.
    planning.apply_plan(database, study_id, [make_unit("c", [30, 31], stage="confirm")], "confirm")
    before = studies.get_study(database, study_id).progress
    assert (before.stage, before.fraction) == ("confirm", pytest.approx(0.8))
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    after = studies.get_study(database, study_id).progress
    assert after.fraction == pytest.approx(0.99)
    assert after.best == progress.best
    assert studies.get_trial(database, study_id, 30).state == TrialState.COMPLETED


def test_what_is_left_is_said_until_the_budget_is_spent(database: Database) -> None:
    study_id = studies.create_study(database, make_spec(seconds=60.0)).id
    for elapsed_s, left_s in ((15.0, 45.0), (90.0, None)):
        with database.write() as session:
            session.execute(update(Study).where(Study.id == study_id).values(elapsed_s=elapsed_s))
        seen = studies.get_study(database, study_id).progress
        assert seen.eta_s == (left_s if left_s is None else pytest.approx(left_s))


@pytest.mark.parametrize("order", [[1, 2, 0], [0, 1, 2], [2, 0, 1]])
def test_who_is_no_better_than_adamw_is_not_the_best(database: Database, order: list[int]) -> None:
    study_id = study_with_units(database, [make_unit(f"u{n}", [n]) for n in order])
    for _ in order:
        got = claim(database)
        result = make_result(got.unit)
        tied = [trial.model_copy(update={"objective": 0.25, "metric": 0.75}) for trial in result.trials]
        assert queue.complete_unit(database, got.unit_id, got.token, result.model_copy(update={"trials": tied}))
    best = studies.get_study(database, study_id).progress.best
    assert best is not None
    assert (best.optimizer, best.value) == ("adamw", 0.75)


def test_reads_cannot_write(database: Database) -> None:
    made = studies.create_study(database, make_spec())
    with pytest.raises(Exception, match=r"readonly|read-only"), database.read() as session:
        session.execute(text("DELETE FROM study"))
    assert studies.get_study(database, made.id).id == made.id


def test_studies_are_found_by_their_name_and_by_the_beginning_of_their_id(database: Database) -> None:
    spec = make_spec()
    one, two = (studies.create_study(database, spec.model_copy(update={"name": name})).id for name in ("a_b", "a%"))

    def found(text: str) -> set[str]:
        return {row.id for row in studies.list_studies(database, find=text).items}

    assert found("a_b") == found(one[:-1]) == found(one) == {one}
    assert found("a%") == {two}
    assert found(one[:4]) == {one, two}
    assert found("%") == found("_") == found("b") == set()


def test_an_unreachable_database_is_told_apart_from_a_wrong_statement(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    for url in ("postgresql://nobody@127.0.0.1:1/none", f"sqlite:///{tmp_path / 'file'}"):
        handle = Database(url)
        with pytest.raises(DatabaseUnavailable) as caught:
            handle.now()
        assert caught.value.code == "database_unavailable"
        handle.dispose()
