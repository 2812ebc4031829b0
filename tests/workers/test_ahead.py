"""An idle worker gets ready for the next unit: whose, when, how often, and that it never gets in anybody's way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from sqlalchemy import event

from optim_core.spec.errors import DataError
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState
from optim_core.spec.trial import UnitResult
from service.db import Database, DatabaseUnavailable
from service.dispatch.null import NullDispatcher
from service.operations import planning, queue, studies
from service.operations.queue import Claim
from service.settings import Settings
from tests.api.api_support import CountingDispatcher
from tests.db.support import make_result, make_spec, make_unit, planner_turn
from workers import process, training
from workers.advance import advance_ready
from workers.ahead import Ahead
from workers.loop import Loop

NEVER_SWEEP = 1e9


@pytest.fixture
def loop(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop that is warm and does not sweep; its problems are its own."""
    monkeypatch.setattr(training, "_problems", training.ProblemCache())
    made = Loop(database, Settings(data_dir=tmp_path), NullDispatcher(), "idle", longest_wait_s=0.1)
    made._sweep_at, made.ahead._warm = NEVER_SWEEP, True
    return made


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the specs whose problems were built, in order; nothing is read."""
    seeds: list[int] = []

    class Source:
        def __init__(self, spec: StudySpec, **_: object) -> None:
            seeds.append(spec.seed)

        def problem(self, fold: int | None) -> object:
            del fold
            return object()

    monkeypatch.setattr(training, "ProblemSource", Source)
    return seeds


def study_elsewhere(database: Database, seed: int = 0) -> tuple[str, Claim]:
    """A study whose only unit is leased by another worker, which its planner has seen."""
    study_id = studies.create_study(database, make_spec(seed)).id
    with planner_turn(database, study_id) as turn:
        assert turn is not None
        assert turn.apply_plan([make_unit(f"a{seed}", [0, 1])], "test")
    claim = queue.claim_unit(database, "other", 60, study_id)
    assert claim is not None
    return study_id, claim


def test_an_idle_worker_builds_once_what_its_next_unit_needs(
    database: Database, loop: Loop, built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id, _ = study_elsewhere(database, seed=7)
    assert loop.turn()  # it took time, so the loop looks again at once
    assert built == [7]
    assert not loop.turn()
    planning.apply_plan(database, study_id, [make_unit("b", [2, 3])], "more")

    def run_pack(problem: object, unit, **_: object) -> UnitResult:
        assert built == [7], "the problem was built again"
        return make_result(unit)

    monkeypatch.setattr(training.engine, "run_pack", run_pack)
    assert loop.train_one()
    assert built == [7]
    assert studies.get_study(database, study_id).progress.trials_done == 2


def test_real_data_are_at_hand_when_the_unit_comes(database: Database, loop: Loop) -> None:
    study_id, _ = study_elsewhere(database)
    assert loop.turn()
    ready = training._problems._folds[0]
    assert training._problems.get(study_id, make_spec(), None) is ready
    # Another study reads its data again, for files may have changed.
    assert training._problems.get("another", make_spec(), None) is not ready


def test_a_claimable_unit_comes_before_getting_ready(database: Database, loop: Loop, built: list[int]) -> None:
    study_elsewhere(database, seed=1)
    second = studies.create_study(database, make_spec(2)).id
    planning.apply_plan(database, second, [make_unit("b", [0, 1])], "test")
    seen: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", lambda claim, *_: seen.append(list(built)) or make_result(claim.unit))
        assert loop.turn()
    assert seen == [[]]


def test_the_problem_at_hand_stays_while_its_study_is_active(
    database: Database, loop: Loop, built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "train", lambda claim, *_: make_result(claim.unit))
    first, _ = study_elsewhere(database, seed=1)
    second, claim = study_elsewhere(database, seed=2)
    assert queue.release_unit(database, claim.unit_id, claim.token)
    assert loop.turn()  # trains the second study's unit, after which its planner asks for another
    assert queue.claim_unit(database, "other", 60, second) is not None
    assert not loop.turn()
    assert built == []
    studies.cancel_study(database, second)
    assert loop.turn()
    assert built == [1]
    assert loop.ahead.study_id == first


def test_a_worker_with_a_focus_gets_ready_for_that_study_alone(
    database: Database, loop: Loop, built: list[int]
) -> None:
    study_elsewhere(database, seed=1)
    loop.study_id, _ = study_elsewhere(database, seed=2)
    assert loop.turn()
    assert not loop.turn()
    assert built == [2]


def test_a_study_that_has_ended_or_rests_is_left_alone(database: Database, loop: Loop, built: list[int]) -> None:
    paused, _ = study_elsewhere(database, seed=1)
    cancelled, _ = study_elsewhere(database, seed=2)
    studies.pause_study(database, paused)
    studies.cancel_study(database, cancelled)
    assert not loop.turn()
    assert built == []


def test_broken_data_fail_in_a_unit_and_nowhere_else(
    database: Database, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id, claim = study_elsewhere(database)
    tries: list[int] = []

    def refuse(spec: StudySpec, **_: object) -> object:
        tries.append(spec.seed)
        raise DataError("only three rows", code="too_few_rows", pointer="/dataset")

    monkeypatch.setattr(training, "ProblemSource", refuse)
    assert loop.turn()
    assert not loop.turn()
    assert tries == [0]  # once, not with every look
    assert studies.get_study(database, study_id).status == StudyState.RUNNING

    assert queue.release_unit(database, claim.unit_id, claim.token)
    assert loop.turn()
    error = studies.get_study(database, study_id).error
    assert error is not None
    assert (error.code, error.message) == ("too_few_rows", "/dataset: only three rows")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA"), DatabaseUnavailable("away", "gone")])
def test_getting_ready_raises_nothing(
    database: Database, loop: Loop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    study_elsewhere(database)
    monkeypatch.setattr(training, "make_ready", fail)
    monkeypatch.setattr(training, "warm_up", fail)
    loop.ahead = Ahead(database, loop.settings)
    assert [loop.turn(), loop.turn(), loop.turn()] == [True, True, False]  # warm-up, study, nothing more to try


def test_nothing_active_costs_no_query_more(database: Database, loop: Loop, built: list[int]) -> None:
    asked: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    assert not loop.turn()
    idle = [statement for statement in asked if statement.startswith("SELECT")]
    assert len(idle) == 2  # which studies are active; which unit waits
    study_elsewhere(database)
    loop.turn()
    asked.clear()
    assert not loop.turn()  # ready: the same two, though a study is active
    assert [statement for statement in asked if statement.startswith("SELECT")] == idle
    assert built == [0]


def test_a_process_that_trains_or_only_plans_or_ends_does_not_get_ready(
    database: Database, loop: Loop, built: list[int]
) -> None:
    study_id, _ = study_elsewhere(database)
    with loop.busy:
        assert not loop.make_ready([study_id])
    loop.trains = False
    assert not loop.make_ready([study_id])
    loop.trains, loop.stop = True, lambda: True
    assert not loop.make_ready([study_id])
    assert built == []


def test_no_unit_is_claimed_by_a_process_that_is_getting_ready(
    database: Database, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id, _ = study_elsewhere(database)
    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(training, "make_ready", lambda *_: begun.set() or go_on.wait(20))
    thread = threading.Thread(target=loop.turn)
    thread.start()
    assert begun.wait(20)
    planning.apply_plan(database, study_id, [make_unit("b", [2, 3])], "more")
    assert not loop.train_one()  # as a Celery task that is rung meanwhile
    go_on.set()
    thread.join(20)
    monkeypatch.setattr(training, "train", lambda claim, *_: make_result(claim.unit))
    assert loop.turn()
    assert studies.get_study(database, study_id).progress.trials_done == 2


def test_warming_up_happens_once_and_not_after_training(
    database: Database, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(training, "warm_up", lambda: calls.append(1))
    loop.ahead = Ahead(database, loop.settings)
    assert [loop.turn(), loop.turn()] == [True, False]
    assert calls == [1]
    loop.ahead = Ahead(database, loop.settings)
    loop.ahead.trained("some study")
    assert not loop.turn()
    assert calls == [1]


def test_warming_up_runs_stacked_networks_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = training.ProblemCache()
    monkeypatch.setattr(training, "_problems", kept)
    stacked: list[int] = []
    vmap = torch.vmap
    monkeypatch.setattr(torch, "vmap", lambda *a, **k: stacked.append(1) or vmap(*a, **k))
    training.warm_up()
    assert stacked
    assert kept._source is None


def test_a_plan_rings_once_more_than_it_has_units(database: Database) -> None:
    bell = CountingDispatcher()
    studies.create_study(database, make_spec())
    assert advance_ready(database, bell) == 1
    assert bell.rung == ["device", "device"]  # the probe, and a worker that gets ready meanwhile
    assert advance_ready(database, bell) == 0
    assert bell.rung == ["device", "device"]


def test_a_bell_wakes_the_thread_that_trains_and_waits_for_its_work(
    loop: Loop, built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.tasks import pull

    monkeypatch.setattr(process, "_loops", [loop])
    # The unit is another worker's, which claims it beside this thread.
    monkeypatch.setattr(loop, "train_one", lambda: False)
    ended, looking, turn = threading.Event(), threading.Lock(), loop.turn

    def one_look() -> bool:
        with looking:
            return turn()

    monkeypatch.setattr(loop, "turn", one_look)
    loop.longest_wait_s, loop.stop = 3600.0, ended.is_set
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        loop.ring(60.0)  # the first look finds nothing
        with looking:  # nor plans what is half made
            study_elsewhere(loop.database, seed=3)
        pull()
        assert built == [3]
    finally:
        ended.set()
        thread.join(20)
    pull()  # of a process that ends: it returns at once


def test_who_rang_does_not_wait_for_a_loop_that_ends(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(loop, "turn", lambda: busy.set() or ended.wait(60))
    loop.stop = ended.is_set
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert busy.wait(20)
    ringing = threading.Thread(target=lambda: loop.ring(3600.0))
    ringing.start()
    ended.set()
    ringing.join(20)
    thread.join(20)
    assert not ringing.is_alive()
