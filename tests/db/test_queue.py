"""Leases and fences: every unit is done once, whatever happens to the workers."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from typing import Any

import pytest

from optim_core.spec.rowscores import pack, unpack
from optim_core.spec.states import StudyState, TrialState
from service.db import Database
from service.operations import events, planning, queue, studies
from tests.db.support import claim, make_point, make_result, make_spec, make_unit, study_with_units

SHORT_S = 0.05


def states(db: Database, study_id: str) -> list[str]:
    return [unit.state.value for unit in planning.study_view(db, study_id).units]


def expire() -> None:
    time.sleep(SHORT_S * 2)


def drain(url: str, name: str, start: Any, out: Any) -> None:
    """A worker process that claims and completes until nothing waits."""
    db = Database(url)
    start.wait()
    while (found := queue.claim_unit(db, name, 60.0)) is not None:
        done = queue.complete_unit(db, found.unit_id, found.token, make_result(found.unit))
        out.put((found.unit_id, found.token, done))
    out.put(None)
    db.dispose()


def test_eight_processes_never_share_a_unit(database: Database) -> None:
    ids = [study_with_units(database, [make_unit(f"u{i}", [i]) for i in range(20)]) for _ in range(3)]
    context = multiprocessing.get_context("spawn")
    start, out = context.Event(), context.Queue()
    processes = [context.Process(target=drain, args=(database.url, f"w{i}", start, out)) for i in range(8)]
    for process in processes:
        process.start()
    start.set()
    seen: list[tuple[int, int, bool]] = []
    for _ in processes:
        while (told := out.get(timeout=120)) is not None:
            seen.append(told)
    for process in processes:
        process.join(30)
    assert Counter(unit for unit, _, _ in seen).most_common(1)[0][1] == 1
    assert len(seen) == 60
    assert all(token == 1 and done for _, token, done in seen)
    for study_id in ids:
        assert states(database, study_id) == ["done"] * 20
        history = events.events_after(database, study_id, 0)
        assert [event.id for event in history] == list(range(1, len(history) + 1))
        assert studies.get_study(database, study_id).progress.trials_done == 20


def test_a_claim_tells_the_worker_everything(database: Database) -> None:
    unit = make_unit("first", [0, 1])
    study_id = study_with_units(database, [unit, make_unit("second", [2])])
    assert studies.get_study(database, study_id).status == StudyState.QUEUED
    got = claim(database)
    assert (got.study_id, got.unit, got.spec, got.token, got.attempt, got.checkpoint) == (
        study_id, unit, make_spec(), 1, 1, None,
    )  # fmt: skip
    study = studies.get_study(database, study_id)
    assert study.status == StudyState.RUNNING
    assert study.started_at is not None
    assert [trial.state for trial in studies.list_trials(database, study_id).items] == ["running", "running", "waiting"]
    assert [worker.id for worker in queue.workers(database)] == ["worker"]
    assert queue.queue_stats(database).model_dump(include={"queued", "leased", "workers"}) == {
        "queued": 1, "leased": 1, "workers": 1,
    }  # fmt: skip


def test_row_scores_come_back_as_they_were(database: Database) -> None:
    unit = make_unit("first", [0, 1], stage="confirm").model_copy(update={"fold": 3})
    study_id = study_with_units(database, [unit])
    got, result = claim(database), make_result(unit)
    assert got.unit.fold == 3
    rows = {"test": pack([1, 0, 255], "B"), "validation": pack([0.1, -1e30, float("nan")], "f")}
    scored = [trial.model_copy(update={"rows": rows if trial.number else {}}) for trial in result.trials]
    result = result.model_copy(update={"trials": scored, "targets": {"test": pack([700, 1, 0], "H")}})
    assert queue.complete_unit(database, got.unit_id, got.token, result)
    (view,) = planning.study_view(database, study_id).units
    assert view.result is not None
    assert [trial.rows for trial in view.result.trials] == [{}, rows]
    assert view.result.targets == result.targets
    assert list(unpack(view.result.targets["test"])) == [700, 1, 0]


def test_a_claim_can_be_bound_to_a_study(database: Database) -> None:
    study_with_units(database, [make_unit("u", [0])])
    wanted = study_with_units(database, [make_unit("u", [0])])
    assert claim(database, wanted).study_id == wanted
    assert queue.claim_unit(database, "worker", 60.0, wanted) is None


def test_an_expired_lease_goes_to_another_worker_and_the_late_commit_is_refused(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0, 1])])
    slow = claim(database, lease_s=SHORT_S)
    assert queue.save_checkpoint(database, slow.unit_id, slow.token, b"half way")
    expire()
    report = queue.sweep(database, 3)
    assert (report.requeued, report.failed, report.queued) == ([slow.unit_id], [], 1)
    assert studies.get_trial(database, study_id, 0).state == TrialState.WAITING
    quick = claim(database)
    assert (quick.unit_id, quick.attempt, quick.token, quick.checkpoint) == (slow.unit_id, 2, 2, b"half way")

    before = events.events_after(database, study_id, 0)
    assert queue.heartbeat(database, slow.unit_id, slow.token, 60) == "lost"
    assert not queue.save_checkpoint(database, slow.unit_id, slow.token, b"stale")
    assert not queue.report_progress(database, slow.unit_id, slow.token, [(0, make_point(7))], 7)
    assert not queue.release_unit(database, slow.unit_id, slow.token, b"stale")
    assert not queue.fail_unit(database, slow.unit_id, slow.token, "x", "y", retryable=False)
    assert not queue.complete_unit(database, slow.unit_id, slow.token, make_result(slow.unit))
    assert events.events_after(database, study_id, 0) == before
    assert studies.get_trial(database, study_id, 0).curve == []

    assert queue.heartbeat(database, quick.unit_id, quick.token, 60) == "ok"
    assert queue.complete_unit(database, quick.unit_id, quick.token, make_result(quick.unit))
    assert not queue.complete_unit(database, quick.unit_id, quick.token, make_result(quick.unit))
    assert studies.get_study(database, study_id).progress.trials_done == 2


def test_what_a_dead_process_held_is_taken_back_at_once(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0]), make_unit("b", [1])])
    first = queue.claim_unit(database, "one", 60.0)
    other = queue.claim_unit(database, "two", 60.0)
    assert first is not None
    assert other is not None
    assert queue.worker_died(database, "one", "was ended by SIGKILL")
    assert not queue.worker_died(database, "nobody", "was ended by SIGKILL")
    again = queue.claim_unit(database, "three", 60.0)
    assert again is not None
    assert (again.unit.key, again.attempt) == (first.unit.key, 2)
    assert queue.heartbeat(database, first.unit_id, first.token, 60.0) == "lost"
    assert queue.heartbeat(database, other.unit_id, other.token, 60.0) == "ok"
    for attempt in ("three", "four"):
        queue.worker_died(database, attempt, "was ended by SIGKILL")
        queue.claim_unit(database, "four", 60.0)
    failed = studies.get_study(database, study_id)
    assert failed.status == StudyState.FAILED
    assert failed.error is not None
    assert failed.error.code == "attempts_exceeded"
    assert "the worker process was ended by SIGKILL in attempt 3" in failed.error.message


def test_a_heartbeat_keeps_the_lease(database: Database) -> None:
    study_with_units(database, [make_unit("u", [0])])
    got = claim(database, lease_s=SHORT_S)
    assert queue.heartbeat(database, got.unit_id, got.token, 60) == "ok"
    expire()
    assert queue.sweep(database, 3).requeued == []


def test_too_many_attempts_fail_the_unit_and_the_study_with_the_reason(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("poison", [0]), make_unit("fine", [1])])
    other = study_with_units(database, [make_unit("u", [0])])
    for attempt in (1, 2, 3):
        got = claim(database, study_id, lease_s=SHORT_S)
        assert (got.unit.key, got.attempt) == ("poison", attempt)
        expire()
        report = queue.sweep(database, 3)
    assert (report.requeued, report.failed) == ([], [got.unit_id])
    study = studies.get_study(database, study_id)
    assert study.status == StudyState.FAILED
    assert study.error is not None
    assert study.error.code == "attempts_exceeded"
    assert study.error.message == "in the search: worker worker was lost in attempt 3 of 3"
    assert queue.claim_unit(database, "worker", 60.0, study_id) is None
    assert claim(database).study_id == other


def test_a_failed_study_can_be_resumed_with_fresh_attempts(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    got = claim(database)
    assert queue.fail_unit(database, got.unit_id, got.token, "cannot_train", "no gradient", retryable=False)
    failed = studies.get_study(database, study_id)
    assert failed.error is not None
    assert (failed.error.code, failed.status) == ("cannot_train", StudyState.FAILED)
    resumed = studies.resume_study(database, study_id)
    assert (resumed.status, resumed.error, resumed.finished_at) == (StudyState.QUEUED, None, None)
    again = claim(database)
    assert (again.attempt, again.token) == (1, 2)
    assert queue.complete_unit(database, again.unit_id, again.token, make_result(again.unit))


def test_a_retryable_failure_goes_back_until_attempts_are_used_up(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    for _ in range(2):
        got = claim(database)
        assert queue.fail_unit(database, got.unit_id, got.token, "out_of_memory", "7 GB", True, max_attempts=2)
    assert states(database, study_id) == ["failed"]
    assert studies.get_study(database, study_id).status == StudyState.FAILED


def test_a_release_does_not_burn_an_attempt(database: Database) -> None:
    study_with_units(database, [make_unit("u", [0])])
    for turn in range(1, 6):
        got = claim(database)
        assert (got.attempt, got.token) == (1, turn)
        assert got.checkpoint == (None if turn == 1 else f"state {turn - 1}".encode())
        assert queue.release_unit(database, got.unit_id, got.token, f"state {turn}".encode())


def test_a_torn_checkpoint_is_not_used(database: Database) -> None:
    study_with_units(database, [make_unit("u", [0])])
    got = claim(database)
    assert queue.release_unit(database, got.unit_id, got.token, b"whole")
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE checkpoint SET sha256 = 'torn'")
    assert claim(database).checkpoint is None


@pytest.mark.parametrize("end", ["cancel", "pause"])
def test_a_running_unit_is_told_to_stop(database: Database, end: str) -> None:
    study_id = study_with_units(database, [make_unit("u", [0]), make_unit("v", [1])])
    got = claim(database)
    assert queue.heartbeat(database, got.unit_id, got.token, 60) == "ok"
    (studies.cancel_study if end == "cancel" else studies.pause_study)(database, study_id)
    assert queue.heartbeat(database, got.unit_id, got.token, 60) == "stop"
    assert queue.claim_unit(database, "worker", 60.0) is None
    if end == "cancel":
        assert not queue.release_unit(database, got.unit_id, got.token, b"late")
        assert not queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
        assert states(database, study_id) == ["cancelled", "cancelled"]
        assert [t.state for t in studies.list_trials(database, study_id).items] == ["cancelled", "cancelled"]
        return
    assert queue.release_unit(database, got.unit_id, got.token, b"state")
    studies.resume_study(database, study_id)
    again = claim(database)
    assert (again.unit_id, again.checkpoint) == (got.unit_id, b"state")


def test_a_deleted_study_leaves_its_worker_with_nothing(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    got = claim(database)
    studies.cancel_study(database, study_id)
    studies.delete_study(database, study_id)
    assert queue.heartbeat(database, got.unit_id, got.token, 60) == "lost"
    assert not queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert not queue.report_progress(database, got.unit_id, got.token, [(0, make_point(1))], 1)


def commit_in_process(url: str, got: Any, ready: Any, start: Any, out: Any) -> None:
    db = Database(url)
    ready.release()
    start.wait()
    out.put(queue.complete_unit(db, got.unit_id, got.token, make_result(got.unit)))
    db.dispose()


def test_cancel_racing_with_commits_leaves_one_of_two_outcomes(database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    start, out, ready = context.Event(), context.Queue(), context.Semaphore(0)
    study_id = study_with_units(database, [make_unit(f"u{i}", [i]) for i in range(4)])
    claims = [claim(database) for _ in range(4)]
    processes = [context.Process(target=commit_in_process, args=(database.url, c, ready, start, out)) for c in claims]
    for process in processes:
        process.start()
    for _ in processes:
        assert ready.acquire(timeout=60)
    start.set()
    assert studies.cancel_study(database, study_id).status == StudyState.CANCELLED
    committed = sum(out.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    found = Counter(states(database, study_id))
    assert found == Counter({"done": committed, "cancelled": 4 - committed} if committed else {"cancelled": 4})
    assert Counter(t.state.value for t in studies.list_trials(database, study_id).items)["completed"] == committed
    assert studies.get_study(database, study_id).status == StudyState.CANCELLED
