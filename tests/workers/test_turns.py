"""A unit is trained a quantum at a time: it goes on in place while nobody waits, and back with its state when others do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from optim_core.spec.states import StudyState, UnitState
from optim_core.spec.trial import UnitResult
from service.db import Database
from service.dispatch.null import NullDispatcher
from service.operations import queue, studies
from service.operations.queue import Claim
from service.settings import Settings
from tests.db.support import make_result, planner_turn
from tests.workers.test_run_one import Train, new_study, unit_row
from workers import runner, training
from workers.loop import Loop
from workers.runner import Outcome, run_one
from workers.turn import Turn
from workers.watchdog import Stopwatch

EAGER = Settings(lease_s=30.0, heartbeat_s=1.0, quantum_s=1e-6)
Install = Callable[[Train], list[Claim]]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replace training; gives the list of claims that it was called with."""
    seen: list[Claim] = []

    def install(stub: Train) -> list[Claim]:
        monkeypatch.setattr(training, "train", lambda claim, on_chunk, _: seen.append(claim) or stub(claim, on_chunk))
        return seen

    return install


def planned(database: Database, *keys: str, seed: int = 0) -> str:
    """As ``new_study``, and no planner has anything to say about it."""
    study_id = new_study(database, *keys, seed=seed)
    with planner_turn(database, study_id) as turn:
        assert turn is not None
    return study_id


def steps(n: int, state: bytes = b"state") -> Train:
    def stub(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        for step in range(1, n + 1):
            time.sleep(1e-4)
            if not on_chunk(step, [], lambda: state):
                raise training.Stopped(state)
        return make_result(claim.unit)

    return stub


def test_alone_a_unit_goes_on_in_place(database: Database, train: Install) -> None:
    study_id = planned(database, "a", "b")
    claims = train(steps(50))
    assert run_one(database, EAGER, "w") == (Outcome.DONE, study_id)
    assert len(claims) == 1


def test_a_study_with_a_worker_of_its_own_never_gives_way(database: Database, train: Install) -> None:
    mine = planned(database, "a")
    planned(database, "b", seed=1)
    train(steps(50))
    assert run_one(database, EAGER, "w", study_id=mine) == (Outcome.DONE, mine)


@pytest.mark.parametrize("units", [["b"], []], ids=["a unit waits", "a plan is wanted"])
def test_where_another_study_waits_the_unit_goes_back_whole(
    database: Database, train: Install, units: list[str]
) -> None:
    first = planned(database, "a", "a2")
    second = new_study(database, *units, seed=1)
    claims = train(steps(50))
    assert run_one(database, EAGER, "w") == (Outcome.RELEASED, first)
    row = unit_row(database, claims[0].unit_id)
    assert (row.state, row.attempts) == (UnitState.QUEUED, 0)
    assert row.spent_s > 0
    if units:  # its turn has come
        assert run_one(database, EAGER, "w") == (Outcome.RELEASED, second)
    # The first of its study's again, and from where it was.
    again = queue.claim_unit(database, "w", 30.0, first)
    assert again is not None
    assert (again.unit_id, again.checkpoint, again.attempt) == (claims[0].unit_id, b"state", 1)
    later = unit_row(database, again.unit_id)
    assert later.claimed_at is not None
    assert later.claimed_at <= database.now() - row.spent_s


@pytest.mark.parametrize("kind", ["none", "too large"])
def test_what_could_not_be_taken_up_again_is_not_given_back(
    database: Database, train: Install, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    first = planned(database, "a")
    planned(database, "b", seed=1)
    monkeypatch.setattr(runner, "MOST_CHECKPOINT_BYTES", 3)

    def stub(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        for step in range(1, 20):
            time.sleep(1e-4)
            assert on_chunk(step, [], None if kind == "none" else lambda: b"large")
        return make_result(claim.unit)

    train(stub)
    assert run_one(database, EAGER, "w") == (Outcome.DONE, first)


def test_workers_lost_after_some_progress_do_not_add_up(database: Database, train: Install) -> None:
    study_id = planned(database, "a")

    def lost(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        time.sleep(1e-4)
        assert on_chunk(1, [], lambda: b"further")
        raise KeyboardInterrupt  # stands for kill -9: nobody says anything to the database

    train(lost)
    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            run_one(database, EAGER, "w")
        queue.worker_died(database, "w", "was ended by SIGKILL")
    assert studies.get_study(database, study_id).status == StudyState.RUNNING
    train(steps(1))
    assert run_one(database, EAGER, "w") == (Outcome.DONE, study_id)


def test_without_progress_they_do(database: Database, train: Install) -> None:
    study_id = planned(database, "a")

    def lost(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        raise KeyboardInterrupt

    claims = train(lost)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run_one(database, EAGER, "w")
        queue.worker_died(database, "w", "was ended by SIGKILL")
    assert len(claims) == 3
    assert studies.get_study(database, study_id).status == StudyState.FAILED


def test_studies_of_many_short_units_take_turns_too(
    database: Database, train: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = planned(database, "a", "a2"), planned(database, "b", "b2", seed=1)
    loop = Loop(database, EAGER, NullDispatcher(), "w", longest_wait_s=0.1)
    monkeypatch.setattr("workers.loop.advance_ready", lambda *_: 0)
    claims = train(lambda claim, _: make_result(claim.unit))
    while loop.train_one():
        pass
    assert [claim.study_id for claim in claims] == [first, second, first, second]


def test_a_turn_is_that_of_one_study() -> None:
    turn = Turn(3600.0)
    turn.at("a")
    assert not turn.over
    short = Turn(0.0)
    short.at("a")
    assert short.over


def test_no_limit_of_celery_depends_on_a_unit() -> None:
    from workers.app import settings
    from workers.tasks import pull

    assert settings.quantum_s < pull.time_limit <= settings.quantum_s + 60


def test_a_thread_of_which_nothing_is_heard_is_given_up() -> None:
    told: list[str] = []
    heard_at = time.monotonic()
    with Stopwatch(0.05, lambda: heard_at, lambda: told.append("stuck"), lambda _: told.append("left")):
        deadline = time.monotonic() + 20
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == ["stuck", "left"]
