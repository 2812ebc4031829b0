"""Workers share their time among projects, and inside one among studies."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from sqlalchemy import select, update

from optim_core.spec.states import UnitState
from service.db import Database
from service.db.base import db_epoch
from service.db.models import DeviceUse, Unit
from service.db.repositories import StudyRepository, UnitRepository
from service.db.repositories.use import BUCKET_S, WINDOW_S
from service.operations import access, planning, queue, studies
from tests.db.support import claim, make_result, make_spec, make_unit, planner_turn


def project(database: Database, name: str, sizes: list[int], priority: int = 0) -> list[str]:
    """The ids of a project's new studies with so many queued units each, none of which waits for a planner."""
    access.set_quota(database, name)
    own, ids = database.of(name), []
    for size in sizes:
        study_id = studies.create_study(own, make_spec().model_copy(update={"priority": priority})).id
        planning.apply_plan(database, study_id, [make_unit(f"u{i}", [i]) for i in range(size)], "test")
        with planner_turn(database, study_id):
            pass
        ids.append(study_id)
    return ids


def ran(database: Database, unit_id: int, seconds: float) -> None:
    """Let a leased unit have begun so much earlier."""
    with database.write() as session:
        session.execute(update(Unit).where(Unit.id == unit_id).values(leased_at=Unit.leased_at - seconds))


def used(database: Database) -> dict[str, float]:
    with database.read() as session:
        found = dict[str, float]()
        for name, seconds in session.execute(select(DeviceUse.project_id, DeviceUse.seconds)):
            found[name] = found.get(name, 0.0) + seconds
        return found


def jain(shares: list[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@pytest.mark.parametrize("ends", [False, True], ids=["units that run", "units that end"])
def test_many_studies_give_a_project_no_more_workers(database: Database, ends: bool) -> None:
    many, (single,) = project(database, "many", [1] * 20), project(database, "one", [10])
    seen = []
    for _ in range(20):
        found = claim(database)
        seen.append(found.study_id)
        if ends:
            ran(database, found.unit_id, 60.0)
            assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
        else:
            # However long a claim took: all leases are of one age.
            with database.write() as session:
                session.execute(update(Unit).where(Unit.state == UnitState.LEASED).values(leased_at=db_epoch()))
    # In turn, whoever was a moment longer at it.
    assert [(a == single) + (b == single) for a, b in zip(seen[::2], seen[1::2], strict=True)] == [1] * 10
    assert [one for one in seen if one != single] == many[:10]
    # What is left is one project's.
    assert {claim(database).study_id for _ in range(10)} == set(many[10:])


def test_priorities_count_inside_a_project_only(database: Database) -> None:
    loud, quiet = project(database, "loud", [4], priority=100), project(database, "quiet", [4], priority=-100)
    assert Counter(claim(database).study_id for _ in range(6)) == {loud[0]: 3, quiet[0]: 3}


def test_shares_of_unequal_projects_are_equal_over_an_hour(database: Database) -> None:
    sizes = {"a": [40], "b": [8] * 6, "c": [4] * 12, "d": [1] * 48}
    owner = {study: name for name, own in sizes.items() for study in project(database, name, own)}
    length = {"a": 90.0, "b": 10.0, "c": 30.0, "d": 60.0}
    for _ in range(60):
        found = claim(database)
        ran(database, found.unit_id, length[owner[found.study_id]])
        assert queue.complete_unit(database, found.unit_id, found.token, make_result(found.unit))
    shares = used(database)
    assert set(shares) == set(sizes)
    assert jain(list(shares.values())) >= 0.95


def test_a_unit_gives_way_to_a_project_that_had_less(database: Database) -> None:
    (mine,) = project(database, "mine", [2])
    held = claim(database)
    ran(database, held.unit_id, 100.0)
    (theirs,) = project(database, "theirs", [2], priority=-5)
    assert not queue.keep_turn(database, held.unit_id, held.token, b"state")
    assert queue.release_unit(database, held.unit_id, held.token, b"state", turn_over=True)
    assert used(database)["mine"] == pytest.approx(100.0, abs=30.0)
    other = claim(database)
    assert other.study_id == theirs
    assert queue.keep_turn(database, other.unit_id, other.token, b"state"), "it has had less so far"
    ran(database, other.unit_id, 300.0)
    assert not queue.keep_turn(database, other.unit_id, other.token, b"state")
    assert queue.release_unit(database, other.unit_id, other.token, b"state", turn_over=True)
    again = claim(database)
    assert (again.study_id, again.unit_id) == (mine, held.unit_id)
    # What was counted at the first release is not counted again.
    assert queue.complete_unit(database, again.unit_id, again.token, make_result(again.unit))
    assert used(database)["mine"] == pytest.approx(100.0, abs=30.0)


def test_what_is_cancelled_or_lost_was_used_all_the_same(database: Database) -> None:
    for name in ("cancelled", "finished", "died"):
        (study_id,) = project(database, name, [2])
        first = claim(database, study_id)
        assert queue.complete_unit(database, first.unit_id, first.token, make_result(first.unit))
        held = claim(database, study_id)
        ran(database, held.unit_id, 50.0)
        if name == "cancelled":
            studies.cancel_study(database, study_id)
        elif name == "finished":
            studies.finish_study(database, study_id)
        else:
            assert queue.worker_died(database, "worker", "was ended by SIGKILL")
    assert used(database) == pytest.approx({"cancelled": 50.0, "finished": 50.0, "died": 50.0}, abs=20.0)


def test_only_the_last_hour_counts(database: Database) -> None:
    (early,), (late,) = project(database, "early", [1]), project(database, "late", [1])
    now = database.now()
    with database.write() as session:
        session.add(DeviceUse(project_id="early", bucket=int((now - WINDOW_S) // BUCKET_S) - 1, seconds=1e6))
        session.add(DeviceUse(project_id="late", bucket=int(now // BUCKET_S), seconds=1.0))
    with database.read() as session:
        assert UnitRepository(session).studies_with_work(None) == [early]
    queue.forget_old_use(database)
    assert used(database) == {"late": 1.0}
    # A unit of two days has had the hour, no more.
    held = claim(database, late)
    ran(database, held.unit_id, 48 * 3600.0)
    assert queue.complete_unit(database, held.unit_id, held.token, make_result(held.unit))
    assert used(database)["late"] == pytest.approx(WINDOW_S + 1.0)


def test_whoever_claims_does_not_wait_for_a_study_that_is_busy(database: Database) -> None:
    """While somebody writes to the study whose turn it is, the next one of that project and priority is begun."""
    if database.dialect == "sqlite":
        # Its lock is one for all: what is asked for is only the order.
        first, second = project(database, "mine", [1, 1])
        assert [claim(database).study_id for _ in range(2)] == [first, second]
        return
    first, second = project(database, "mine", [2, 1])
    (lower,) = project(database, "mine", [1], priority=-1)
    (other,) = project(database, "other", [1])
    with database.write() as busy:
        assert StudyRepository(busy).lock(first) is not None
        assert claim(database).study_id == second
        # A lease counts from its first moment on: now it is the turn of the other project.
        assert claim(database).study_id == other
    # Of mine only this one is of the highest priority, so it is waited for.
    done, found = threading.Event(), list[str]()

    def wait() -> None:
        found.append(claim(database).study_id)
        done.set()

    with database.write() as busy:
        assert StudyRepository(busy).lock(first) is not None
        thread = threading.Thread(target=wait)
        thread.start()
        assert not done.wait(0.3)
    thread.join(30)
    assert found == [first]
    assert lower not in found
