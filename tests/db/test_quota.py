"""Device seconds of a project: what counts, and that nothing of it is trained once they are used up."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from service.db import Database
from service.db.models import Unit
from service.operations import access, deadlines, planning, queue, studies
from service.operations.errors import ServiceError
from tests.db.support import claim, make_result, make_spec, make_unit, planner_turn


@pytest.fixture
def lab(database: Database) -> Database:
    access.set_quota(database, "lab", max_device_s=100_000)
    return database.of("lab")


def study_of(database: Database, units: int = 2) -> str:
    """A new study with so many queued units, which does not wait for a planner."""
    study = studies.create_study(database, make_spec()).id
    assert planning.apply_plan(database, study, [make_unit(f"u{i}", [i]) for i in range(units)], "test") == units
    with planner_turn(database, study):
        pass
    return study


def ran(database: Database, found: queue.Claim, seconds: float) -> None:
    """Let a leased unit have begun so much earlier."""
    earlier = {"claimed_at": Unit.claimed_at - seconds, "leased_at": Unit.leased_at - seconds}
    with database.write() as session:
        session.execute(update(Unit).where(Unit.id == found.unit_id).values(**earlier))


def used(database: Database) -> float:
    return next(one.device_s for one in access.list_projects(database) if one.name == "lab")


def state(database: Database, study: str) -> tuple[str, str | None]:
    found = studies.get_study(database, study)
    return found.status.value, None if found.error is None else found.error.code


def test_a_project_without_device_seconds_left_is_given_no_worker(database: Database, lab: Database) -> None:
    first, second, free = study_of(lab), study_of(lab), study_of(database)
    held = claim(database, first)
    ran(database, held, 90_000.0)
    assert claim(database, second).study_id == second, "some are left"
    ran(database, held, 10_000.0)  # which ends while it runs
    studies.pause_study(lab, second)
    for _ in range(2):
        assert claim(database).study_id == free
    assert queue.claim_unit(database, "worker", 60.0) is None
    assert state(lab, first) == ("failed", "quota_exceeded")
    assert "of 100,000 device seconds" in studies.get_study(lab, first).error.message  # type: ignore[union-attr]
    # What runs hands in its state, and goes on from there once there is more.
    assert queue.heartbeat(database, held.unit_id, held.token, 60.0) == "stop"
    assert queue.release_unit(database, held.unit_id, held.token, b"state")
    assert used(database) >= 100_000
    for study in (first, second):
        with pytest.raises(ServiceError) as refused:
            studies.resume_study(lab, study)
        assert refused.value.code == "quota_exceeded"
    access.set_quota(database, "lab", max_device_s=1_000_000)
    studies.resume_study(lab, first)
    again = claim(database, first)
    assert (again.unit_id, again.checkpoint) == (held.unit_id, b"state")


def test_studies_that_were_all_there_before_any_was_used_share_what_there_is(database: Database, lab: Database) -> None:
    ids = [study_of(lab) for _ in range(6)]
    trained = 0
    while (found := queue.claim_unit(database, "worker", 60.0)) is not None:
        ran(database, found, 30_000.0)
        assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
        trained += 1
    assert trained == 4
    assert used(database) == pytest.approx(120_000.0, rel=0.1)
    assert {state(lab, study) for study in ids[2:]} == {("failed", "quota_exceeded")}


def test_a_study_that_runs_is_ended_by_the_sweep_and_one_that_only_waits_for_its_answer_is_not(
    database: Database, lab: Database
) -> None:
    done, runs = study_of(lab, 1), study_of(lab, 1)
    last = claim(database, done)
    held = claim(database, runs)
    assert deadlines.end_spent(database) == []
    ran(database, last, 200_000.0)
    assert queue.complete_unit(database, last.unit_id, last.token, make_result(last.unit))
    assert deadlines.end_spent(database) == [runs]
    assert state(lab, done)[0] == "running"
    assert queue.heartbeat(database, held.unit_id, held.token, 60.0) == "stop"


def test_what_is_cancelled_given_back_or_deleted_was_used_all_the_same(database: Database, lab: Database) -> None:
    for end in ("cancel", "finish", "give back"):
        study = study_of(lab)
        first = claim(database, study)
        assert queue.complete_unit(database, first.unit_id, first.token, make_result(first.unit))
        before, held = used(database), claim(database, study)
        ran(database, held, 10_000.0)
        if end == "cancel":
            studies.cancel_study(lab, study)
        elif end == "finish":
            studies.finish_study(lab, study)
        else:
            assert queue.release_unit(database, held.unit_id, held.token, b"state", turn_over=True)
        assert used(database) == pytest.approx(before + 10_000.0, rel=0.1), end
        studies.cancel_study(lab, study)
        studies.delete_study(lab, study)
        assert used(database) == pytest.approx(before + 10_000.0, rel=0.1), end


def test_a_failed_study_is_one_more_when_it_is_resumed(database: Database) -> None:
    access.set_quota(database, "lab", max_studies=1)
    lab = database.of("lab")
    failed = study_of(lab)
    planning.fail_study(database, failed, "worker_lost", "gone")
    other = study_of(lab)
    with pytest.raises(ServiceError) as refused:
        studies.resume_study(lab, failed)
    assert refused.value.code == "quota_exceeded"
    studies.pause_study(lab, other)
    studies.resume_study(lab, other)
