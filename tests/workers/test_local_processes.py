"""Workers as real processes: they can be killed, stopped and orphaned at any time and nothing is lost."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from optim_core.spec.problem import Budget, BuiltinDataset, CatalogueModel, Search, StudySpec, Training
from optim_core.spec.states import StudyState, UnitState
from service.db import Database
from service.db.models import Unit
from service.dispatch.null import NullDispatcher
from service.operations import events, studies
from service.operations.views import Event
from service.settings import Settings
from workers import local
from workers.local import LocalPool, LocalProcess, as_environment
from workers.loop import Loop

SETTINGS = {"lease_s": 2.0, "heartbeat_s": 0.5, "sweep_s": 0.5, "poll_s": 0.05, "log_level": "WARNING"}


def small_spec(steps: int, trials: int = 4) -> StudySpec:
    return StudySpec(
        model=CatalogueModel(name="mlp", hidden=[16]),
        dataset=BuiltinDataset(name="digits"),
        training=Training(steps=steps),
        search=Search(optimizers=["adamw", "momentum"]),
        budget=Budget(trials=trials, seeds=2),
    )


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, database_url=database.url, **SETTINGS)  # type: ignore[arg-type]


@pytest.fixture
def worker(settings: Settings) -> Iterator[LocalProcess]:
    process = LocalProcess(settings)
    yield process
    process.stop()


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> float:
    """Seconds until ``condition`` held."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        if condition():
            return time.monotonic() - started
        time.sleep(0.02)
    raise AssertionError(f"nothing happened within {timeout_s} s")


def units(database: Database) -> list[Unit]:
    with database.read() as session:
        return list(session.scalars(select(Unit).order_by(Unit.id)).all())


def training_unit(database: Database) -> Unit | None:
    """The unit that is being trained, once it has reported a step."""
    busy = [unit for unit in units(database) if unit.state == UnitState.LEASED and unit.kind != "probe"]
    return next((unit for unit in busy if unit.step), None)


def all_events(database: Database, study_id: str) -> list[Event]:
    return events.events_after(database, study_id, 0, limit=5000)


def test_a_waiting_worker_touches_no_database(settings: Settings, tmp_path: Path) -> None:
    fresh = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'absent' / 'none.db'}"})
    process = LocalProcess(fresh)
    time.sleep(0.5)
    process.stop()
    assert not (tmp_path / "absent").exists()


def test_a_worker_that_holds_nothing_ends_whatever_it_is_doing(database: Database, settings: Settings) -> None:
    code = (
        "import time, workers.training\n"
        "workers.training.warm_up = lambda: print('busy', flush=True) or time.sleep(600)\n"
        "from service.settings import Settings; from workers.local import work; work(Settings())"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, **as_environment(settings)}
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "busy\n"
    worker.terminate()
    assert worker.wait(60) == 0
    worker.stdout.close()


@pytest.mark.parametrize(("cores", "early"), [(1, 1), (2, 1), (3, 2), (8, 2)])
def test_a_pool_leaves_a_core_to_its_owner_until_there_is_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, cores: int, early: int
) -> None:
    orders: list[str | None] = []

    class Fake:
        pid = 0

        def __init__(self, settings: Settings, threads: int = 1, *, trains: bool = True) -> None:
            self.trains = trains

        def go(self, study_id: str | None) -> None:
            orders.append(study_id)

        def alive(self) -> bool:
            return True

        def terminate(self) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr(local, "cores", lambda: cores)
    monkeypatch.setattr(local, "LocalProcess", Fake)
    pool = LocalPool(settings, 2, planner=cores == 8)
    assert len(pool.processes) == early
    pool.go("a study")
    pool.go("another")
    assert len(pool.processes) == 2
    told = 3 if cores == 8 else 2
    assert orders == ["a study"] * told + ["another"] * told
    pool.close()


@pytest.mark.parametrize("at_work", [True, False])
def test_workers_that_die_of_their_work_are_no_sign_of_a_broken_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, at_work: bool
) -> None:
    class Dead:
        pid, status, trains, told = 1, -11, True, False

        def __init__(self, *_: object, **__: object) -> None: ...

        def alive(self) -> bool:
            return False

        def terminate(self) -> None: ...

        def stop(self) -> None: ...

    told: list[str] = []

    def died(_: str, how: str) -> bool:
        told.append(how)
        return at_work

    monkeypatch.setattr(local, "LocalProcess", Dead)
    monkeypatch.setattr(local, "LONGEST_RESTART_S", 0.01)
    monkeypatch.setattr(LocalPool, "on_death", staticmethod(died))
    pool = LocalPool(settings, 1)
    wait_for(lambda: len(told) > 4)
    assert pool.working() is at_work
    pool.close()
    assert set(told) == {"was ended by SIGSEGV"}


def test_a_worker_that_dies_while_another_is_told_of_is_told_of_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Mortal] = []

    class Mortal:
        status, trains, told = -9, True, False

        def __init__(self, *_: object, **__: object) -> None:
            made.append(self)
            self.pid, self.lives = len(made), True

        def alive(self) -> bool:
            return self.lives

        def terminate(self) -> None: ...

        def stop(self) -> None: ...

    told: list[str] = []

    def died(name: str, _: str) -> bool:
        told.append(name)
        # The first in the row, which was seen alive a moment ago, takes the unit over and dies of it.
        made[0].lives = False
        return True

    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr(local, "LocalProcess", Mortal)
    monkeypatch.setattr(local, "LONGEST_RESTART_S", 0.01)
    monkeypatch.setattr(LocalPool, "on_death", staticmethod(died))
    pool = LocalPool(settings, 2)
    made[1].lives = False
    wait_for(lambda: len(told) > 1)
    wait_for(lambda: all(process.alive() for process in pool.processes))
    pool.close()
    assert told == [local.worker_name(2), local.worker_name(1)]


def test_stopping_a_worker_releases_its_unit_soon(database: Database, worker: LocalProcess) -> None:
    study_id = studies.create_study(database, small_spec(steps=40_000)).id
    worker.go()
    wait_for(lambda: training_unit(database))
    os.kill(worker.pid, signal.SIGTERM)
    assert wait_for(lambda: not worker.alive(), 30) < 30
    left = units(database)[-1]
    assert (left.state, left.attempts) == (UnitState.QUEUED, 0)
    assert studies.get_study(database, study_id).status == StudyState.RUNNING


def test_a_worker_whose_parent_dies_stops(database: Database, settings: Settings) -> None:
    studies.create_study(database, small_spec(steps=40_000))
    code = (
        "import time; from service.settings import Settings; from workers.local import LocalProcess\n"
        "p = LocalProcess(Settings()); p.go(); print(p.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, **as_environment(settings)}
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_for(lambda: training_unit(database))
    parent.kill()
    parent.communicate()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2], 30)
    assert units(database)[-1].state == UnitState.QUEUED


def test_a_killed_worker_is_replaced_and_its_unit_is_committed_once(database: Database, settings: Settings) -> None:
    study_id = studies.create_study(database, small_spec(steps=8_000)).id
    pool = LocalPool(settings, 1)

    def taken_twice() -> list[Unit]:
        return [unit for unit in units(database) if unit.attempts > 1]

    try:
        pool.go(study_id)
        wait_for(lambda: training_unit(database))
        os.kill(pool.processes[0].pid, signal.SIGKILL)
        wait_for(lambda: [unit for unit in taken_twice() if unit.state == UnitState.DONE], 280)
        assert pool.working()
        studies.cancel_study(database, study_id)
    finally:
        pool.close()
    committed = [event.data["unit"] for event in all_events(database, study_id) if event.type == "unit.done"]
    assert len(committed) == len(set(committed))
    assert [unit.attempts for unit in taken_twice()] == [2]


def test_two_planners_at_once_plan_each_step_once(database: Database, settings: Settings) -> None:
    study_id = studies.create_study(database, small_spec(steps=20)).id

    def ended() -> bool:
        return studies.get_study(database, study_id).status == StudyState.COMPLETED

    loops = [Loop(database, settings, NullDispatcher(), f"w{i}", stop=ended, longest_wait_s=0.05) for i in range(3)]
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert ended()
    done = [event.data["unit"] for event in all_events(database, study_id) if event.type == "unit.done"]
    assert len(done) == len(set(done)) == len(units(database))
    assert max(unit.attempts for unit in units(database)) == 1


def test_a_planner_that_breaks_fails_its_study_alone(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optim_core import search
    from workers.advance import advance_ready

    bad = studies.create_study(database, small_spec(steps=20)).id
    good = studies.create_study(database, small_spec(steps=20, trials=5)).id
    plan = search.plan

    def broken(view):
        if view.study_id == bad:
            raise RuntimeError("no plan")
        return plan(view)

    monkeypatch.setattr(search, "plan", broken)
    advance_ready(database, NullDispatcher())
    failed = studies.get_study(database, bad)
    assert failed.status == StudyState.FAILED
    assert failed.error is not None
    assert failed.error.code == "internal_error"
    assert failed.error.message.count("\n") == 0
    assert "Traceback" not in failed.error.message
    assert [unit.study_id for unit in units(database)] == [good]


@pytest.mark.parametrize("where", ["what is stored of it", "what it reads"])
def test_a_planner_whose_words_cannot_be_stored_fails_its_study_once(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from optim_core import recommend
    from optim_core.recommend.standing import Standing
    from service.operations import planning
    from workers.advance import advance_ready

    bad = studies.create_study(database, small_spec(steps=20)).id
    if where == "what it reads":

        def unreadable(session, study):
            raise ValueError("not a view")

        monkeypatch.setattr(planning, "_view", unreadable)
    else:
        endless = Standing(0.0, math.inf, "adamw", math.inf, 20, "so far")
        monkeypatch.setattr(recommend, "standing", lambda view: endless)
    advance_ready(database, NullDispatcher())
    failed = studies.get_study(database, bad)
    assert failed.status == StudyState.FAILED
    assert failed.error is not None
    assert failed.error.code == "internal_error"
    assert planning.active_studies(database) == {}
