"""One unit from claim to commit, with a stub in place of the engine: fencing, release, failure classes, outages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from optim_core import engine
from optim_core.engine import PackTooLarge
from optim_core.spec.errors import DataError, TrainingError
from optim_core.spec.problem import StudySpec
from optim_core.spec.rowscores import unpack
from optim_core.spec.states import StudyState, UnitState
from optim_core.spec.trial import UnitResult, UnitSpec
from optim_core.tasks import Problem
from service.db import Database, DatabaseUnavailable
from service.db.models import Unit
from service.db.repositories import UnitRepository
from service.dispatch.null import NullDispatcher
from service.operations import planning, queue, studies
from service.operations.queue import Claim
from service.settings import Settings
from tests.db.support import make_point, make_result, make_spec, make_unit
from workers import runner, training
from workers.loop import Loop
from workers.runner import Outcome, run_one
from workers.training import Stopped

SETTINGS = Settings(lease_s=30.0, heartbeat_s=0.05)
SHORT = Settings(lease_s=0.4, heartbeat_s=0.1)
Train = Callable[[Claim, training.OnChunk], UnitResult]


def new_study(database: Database, *keys: str, seed: int = 0) -> str:
    """A study whose units, of two trials each, wait in the queue."""
    study_id = studies.create_study(database, make_spec(seed)).id
    units = [make_unit(key, [2 * i, 2 * i + 1]) for i, key in enumerate(keys)]
    planning.apply_plan(database, study_id, units, "test")
    return study_id


def unit_row(database: Database, unit_id: int) -> Unit:
    with database.read() as session:
        row = session.get(Unit, unit_id)
        assert row is not None
        return row


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[[Train], list[Claim]]:
    """Replace training; returns the list that collects the claims it was called with."""

    def install(stub: Train) -> list[Claim]:
        seen: list[Claim] = []

        def recorded(claim: Claim, on_chunk: training.OnChunk, _: object) -> UnitResult:
            seen.append(claim)
            return stub(claim, on_chunk)

        monkeypatch.setattr(training, "train", recorded)
        return seen

    return install


def finish(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
    return make_result(claim.unit)


def until_stopped(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
    """Trains for as long as nobody stops it, at most ten seconds."""
    for step in range(1, 1000):
        if not on_chunk(step, [], lambda: b"state"):
            raise Stopped(b"state")
        time.sleep(0.01)
    return make_result(claim.unit)


def test_an_empty_queue_gives_nothing(database: Database, train: Callable[[Train], list[Claim]]) -> None:
    assert train(finish) == []
    assert run_one(database, SETTINGS, "w") is None


def test_a_unit_is_trained_and_committed_once(database: Database, train: Callable[[Train], list[Claim]]) -> None:
    study_id = new_study(database, "a")
    claims = train(finish)
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)
    assert run_one(database, SETTINGS, "w") is None
    assert unit_row(database, claims[0].unit_id).state == UnitState.DONE
    assert studies.get_study(database, study_id).progress.trials_done == 2


def test_a_worker_with_a_focus_leaves_other_studies_alone(
    database: Database, train: Callable[[Train], list[Claim]]
) -> None:
    new_study(database, "a")
    second = new_study(database, "b", seed=1)
    claims = train(finish)
    assert run_one(database, SETTINGS, "w", study_id=second) == (Outcome.DONE, second)
    assert run_one(database, SETTINGS, "w", study_id=second) is None
    assert [claim.study_id for claim in claims] == [second]


def test_a_stop_releases_with_a_checkpoint_and_burns_no_attempt(
    database: Database, train: Callable[[Train], list[Claim]]
) -> None:
    new_study(database, "a")
    claims = train(until_stopped)
    ended = run_one(database, SETTINGS, "w", stop=lambda: True)
    assert ended is not None
    assert ended[0] is Outcome.RELEASED
    row = unit_row(database, claims[0].unit_id)
    assert (row.state, row.attempts) == (UnitState.QUEUED, 0)
    again = queue.claim_unit(database, "other", 30)
    assert again is not None
    assert again.checkpoint == b"state"
    assert again.attempt == 1


def test_pausing_the_study_stops_the_work_and_keeps_it(
    database: Database, train: Callable[[Train], list[Claim]]
) -> None:
    study_id = new_study(database, "a")

    def paused_meanwhile(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        studies.pause_study(database, study_id)
        return until_stopped(claim, on_chunk)

    claims = train(paused_meanwhile)
    assert run_one(database, SETTINGS, "w") == (Outcome.RELEASED, study_id)
    assert unit_row(database, claims[0].unit_id).state == UnitState.QUEUED
    assert run_one(database, SETTINGS, "w") is None
    studies.resume_study(database, study_id)
    train(finish)
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)


@pytest.mark.parametrize("end", [studies.cancel_study])
def test_a_late_result_of_a_cancelled_study_is_dropped(
    database: Database, train: Callable[[Train], list[Claim]], end: Callable[[Database, str], object]
) -> None:
    study_id = new_study(database, "a")

    def cancelled_meanwhile(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        end(database, study_id)
        return make_result(claim.unit)

    claims = train(cancelled_meanwhile)
    assert run_one(database, SETTINGS, "w") == (Outcome.LOST, study_id)
    assert unit_row(database, claims[0].unit_id).state == UnitState.CANCELLED
    assert studies.get_study(database, study_id).progress.trials_done == 0


def test_a_worker_frozen_past_its_lease_commits_nothing(
    database: Database, train: Callable[[Train], list[Claim]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = new_study(database, "a")

    def away(*_: object) -> str:
        raise DatabaseUnavailable("database_unavailable", "gone")

    def taken_over(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        # Frozen: no heartbeat gets out until somebody else holds the unit.
        monkeypatch.setattr(queue, "heartbeat", away)
        time.sleep(SHORT.lease_s + 0.2)
        assert queue.sweep(database).requeued == [claim.unit_id]
        other = queue.claim_unit(database, "other", 30)
        assert other is not None
        assert queue.complete_unit(database, other.unit_id, other.token, make_result(other.unit))
        return make_result(claim.unit, diverged=(0,))

    claims = train(taken_over)
    assert run_one(database, SHORT, "w") == (Outcome.LOST, study_id)
    assert unit_row(database, claims[0].unit_id).attempts == 2
    assert studies.get_trial(database, study_id, 0).metric == 1.0  # the other worker's result, not the late one
    assert run_one(database, SHORT, "w") is None


def test_a_worker_cut_off_from_the_database_stops_by_its_own_clock(
    database: Database, train: Callable[[Train], list[Claim]], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_study(database, "a")

    def away(*_: object) -> str:
        raise DatabaseUnavailable("database_unavailable", "gone")

    monkeypatch.setattr(queue, "heartbeat", away)
    train(until_stopped)
    started = time.monotonic()
    ended = run_one(database, SHORT, "w")
    assert ended is not None
    assert ended[0] is Outcome.LOST
    assert SHORT.lease_s <= time.monotonic() - started < 5


def test_a_commit_survives_a_short_outage(
    database: Database, train: Callable[[Train], list[Claim]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = new_study(database, "a")
    train(finish)
    monkeypatch.setattr(runner, "COMMIT_RETRY_S", 0.01)
    commit, failures = queue.complete_unit, [1, 2]

    def flaky(*arguments: object) -> bool:
        if failures:
            failures.pop()
            raise DatabaseUnavailable("database_unavailable", "restarting")
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(queue, "complete_unit", flaky)
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)
    assert studies.get_study(database, study_id).progress.trials_done == 2


@pytest.mark.parametrize("error", [DataError("no rows", code="too_few_rows"), TrainingError("no step possible")])
def test_bad_input_ends_the_study_at_once(
    database: Database, train: Callable[[Train], list[Claim]], error: Exception
) -> None:
    study_id = new_study(database, "a")

    def refuse(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        raise error

    claims = train(refuse)
    assert run_one(database, SETTINGS, "w") == (Outcome.FAILED, study_id)
    study = studies.get_study(database, study_id)
    assert study.status == StudyState.FAILED
    assert study.error is not None
    assert study.error.code == error.code  # type: ignore[attr-defined]
    assert str(error) in study.error.message
    assert len(claims) == 1


def test_a_poison_unit_gets_three_attempts_and_hurts_no_other_study(
    database: Database, train: Callable[[Train], list[Claim]]
) -> None:
    bad, good = new_study(database, "a"), new_study(database, "a", seed=1)

    def poison(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        if claim.study_id == bad:
            raise ZeroDivisionError("poison")
        return make_result(claim.unit)

    claims = train(poison)
    while run_one(database, SETTINGS, "w") is not None:
        pass
    assert [claim.attempt for claim in claims if claim.study_id == bad] == [1, 2, 3]
    failed = studies.get_study(database, bad)
    assert failed.status == StudyState.FAILED
    assert failed.error is not None
    assert "ZeroDivisionError: poison" in failed.error.message
    assert "Traceback" not in failed.error.message
    assert studies.get_study(database, good).progress.trials_done == 2


def test_progress_and_checkpoints_are_stored_while_training(
    database: Database, train: Callable[[Train], list[Claim]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = new_study(database, "a")
    monkeypatch.setattr(runner, "PROGRESS_S", 0.0)
    monkeypatch.setattr(runner, "CHECKPOINT_S", 0.0)
    seen = []

    def chunks(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        assert on_chunk(10, [(0, make_point(10)), (1, make_point(10))], lambda: b"ten")
        seen.extend(studies.get_trial(database, study_id, 0).curve)
        return make_result(claim.unit)

    train(chunks)
    saved = []
    save = queue.save_checkpoint
    monkeypatch.setattr(queue, "save_checkpoint", lambda *a: saved.append(a[-1]) or save(*a))
    assert run_one(database, SETTINGS, "w") == (Outcome.DONE, study_id)
    assert [point.step for point in seen] == [10]
    assert saved == [b"ten"]


def test_a_checkpoint_that_no_database_takes_is_not_stored_and_not_made_again(
    database: Database, train: Callable[[Train], list[Claim]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = new_study(database, "a")
    monkeypatch.setattr(runner, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(runner, "MOST_CHECKPOINT_BYTES", 4)
    made: list[int] = []

    def chunks(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        for step in (10, 20):
            on_chunk(step, [], lambda: made.append(1) or b"large")
        raise Stopped(b"large")

    claims = train(chunks)
    assert run_one(database, SETTINGS, "w") == (Outcome.RELEASED, study_id)
    assert made == [1]
    again = queue.claim_unit(database, "other", 30)
    assert again is not None
    assert (again.unit_id, again.checkpoint, again.attempt) == (claims[0].unit_id, None, 1)


def _limited(largest: int, sizes: list[int]) -> Callable[..., UnitResult]:
    def run_pack(problem: object, unit: UnitSpec, **_: object) -> UnitResult:
        sizes.append(len(unit.trials))
        if len(unit.trials) > largest:
            raise PackTooLarge("too many")
        return make_result(unit)

    return run_pack


def test_a_pack_that_is_too_large_is_trained_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(engine, "run_pack", _limited(2, sizes))
    monkeypatch.setattr(training.ProblemCache, "get", lambda *_: None)
    unit = make_unit("a", list(range(5)))
    claim = Claim(1, "s", make_spec(), unit, 1, 1, None)
    result = training.train(claim, lambda *_: True, None)
    assert [trial.number for trial in result.trials] == [0, 1, 2, 3, 4]
    assert result.train_steps == 5 * unit.horizon
    assert sizes == [5, 3, 2, 1, 2]


def test_a_worker_reads_a_study_once_and_keeps_two_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Counted(training.ProblemSource):
        def __init__(self, spec: StudySpec, **rest: Any) -> None:
            read.append("source")
            super().__init__(spec, **rest)

        def problem(self, fold: int | None = None) -> Problem:
            read.append(f"fold {fold}")
            return super().problem(fold)

    monkeypatch.setattr(training, "ProblemSource", Counted)
    cache, spec = training.ProblemCache(), make_spec()
    search = cache.get("s", spec, None)
    assert [cache.get("s", spec, None, fold).fold for fold in (0, 2, 2, 3, None)] == [0, 2, 2, 3, 0]
    assert cache.get("s", spec, None, 0) is cache.get("s", spec, None) is search
    assert read == ["source", "fold None", "fold 2", "fold 3"]
    assert set(cache._folds) == {0, 3}
    assert cache.get("another", spec, None, 3).fold == 3
    assert read[4:] == ["source", "fold 3"]
    assert set(cache._folds) == {3}


def test_a_confirmation_trained_in_parts_keeps_all_that_it_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_problems", training.ProblemCache())
    spec = make_spec().model_copy(update={"metric": "f1"})
    unit = make_unit("a", [0, 1, 2], stage="confirm").model_copy(update={"kind": "confirm", "fold": 1, "split": "test"})
    claim = Claim(1, "s", spec, unit, 1, 1, None)
    whole, run_pack = training.train(claim, lambda *_: True, None), engine.run_pack

    def limited(problem: Problem, part: UnitSpec, **rest: Any) -> UnitResult:
        if len(part.trials) > 1:
            raise PackTooLarge("too many")
        return run_pack(problem, part, **rest)

    monkeypatch.setattr(engine, "run_pack", limited)
    parts = training.train(claim, lambda *_: True, None)
    assert set(whole.targets) == {"test", "validation"}
    assert parts.targets == whole.targets
    assert [set(trial.rows) for trial in parts.trials] == 3 * [{"test", "validation"}]
    # Alone a trial's arithmetic is another one, to the last bit.
    for one, other in zip(parts.trials, whole.trials, strict=True):
        same = [a == b for a, b in zip(unpack(one.rows["test"]), unpack(other.rows["test"]), strict=True)]
        assert sum(same) >= 0.98 * len(same)


def test_a_single_trial_that_is_too_large_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run_pack", _limited(0, []))
    monkeypatch.setattr(training.ProblemCache, "get", lambda *_: None)
    claim = Claim(1, "s", make_spec(), make_unit("a", [0, 1]), 1, 1, None)
    with pytest.raises(TrainingError, match="does not fit") as caught:
        training.train(claim, lambda *_: True, None)
    assert caught.value.code == "out_of_memory"


def test_who_is_overtaken_stands_aside_and_who_lost_its_lease_does_not(
    database: Database, train: Callable[[Train], list[Claim]]
) -> None:
    study_id = new_study(database, "a", "b")
    queue.worker_seen(database, "quick")
    loop = Loop(database, SETTINGS, NullDispatcher(), "w", longest_wait_s=0.1)

    def overtaken(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        with database.write() as session:
            assert UnitRepository(session).take_over(claim.unit_id, claim.token, "quick", 30.0)
        return until_stopped(claim, on_chunk)

    claims = train(overtaken)
    assert loop.train_one()
    assert [claim.unit.key for claim in claims] == ["a"]
    assert unit_row(database, claims[0].unit_id).worker_id == "quick"
    assert not loop.train_one(), "the quick one will have begun the other before this one could end it"
    # Alone again, it trains: all that waits would wait for it.
    queue.worker_gone(database, "quick")
    train(finish)
    assert loop.train_one()

    [last] = _units_of(database, study_id, "b")
    assert last.state == UnitState.DONE
    planning.apply_plan(database, study_id, [make_unit("c", [4]), make_unit("d", [5])], "test")
    queue.worker_seen(database, "quick")

    def ran_out(claim: Claim, on_chunk: training.OnChunk) -> UnitResult:
        with database.write() as session:
            session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=0.0))
        queue.sweep(database, 5)
        time.sleep(2 * SHORT.lease_s)
        return make_result(claim.unit)

    loop = Loop(database, SHORT, NullDispatcher(), "w", longest_wait_s=0.1)
    claims = train(ran_out)
    assert loop.train_one()
    assert [claim.unit.key for claim in claims] == ["c"]
    train(finish)
    assert loop.train_one(), "a machine that slept is not slow"


def _units_of(database: Database, study_id: str, key: str) -> list[Unit]:
    with database.read() as session:
        return session.query(Unit).filter(Unit.study_id == study_id, Unit.key == key).all()
