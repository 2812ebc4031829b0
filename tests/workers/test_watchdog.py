"""A call of a person's code that does not come back: who notices, where it is, and what becomes of the unit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from optim_core.own import user_code as theirs
from optim_core.own.entrypoint import UserModules
from optim_core.own.user_code import UserCodeError, user_code
from optim_core.spec.problem import StudySpec
from optim_core.spec.states import StudyState, UnitState
from optim_core.spec.trial import UnitSpec
from service.db import Database
from service.operations import planning, studies
from service.settings import Settings
from workers import training
from workers.runner import Outcome, run_one
from workers.watchdog import Abandoned, Watchdog, end_thread, patience_s

SOURCE = """
import threading

def loop():
    while True:
        pass

def wait(event):
    event.wait()

def stubborn():
    while True:
        try:
            while True:
                pass
        except Exception:
            pass
"""
PATIENCE_S = 30.0


@pytest.fixture
def user(tmp_path: Path) -> Iterator[ModuleType]:
    """A module of theirs."""
    (tmp_path / "user.py").write_text(SOURCE)
    modules = UserModules()
    loop = modules.load("user.py:loop", str(tmp_path))
    yield __import__("sys").modules[loop.__module__]
    UserModules()
    theirs.roots.clear()


def watch(limit_s: float = 3600.0, stopping: bool = False, **more: Any) -> tuple[Watchdog, list[str]]:
    told: list[str] = []
    dog = Watchdog(
        limit_s, told.append, lambda: stopping, lambda: told.append("left"), end_thread, look_s=0.02, grace_s=0.05, **more
    )  # fmt: skip
    return dog, told


@pytest.mark.parametrize("name", ["loop", "stubborn"])
def test_an_endless_loop_is_told_with_its_line_and_left(user: ModuleType, name: str) -> None:
    dog, told = watch(limit_s=0.1)
    with pytest.raises(Abandoned), dog, user_code("in forward"):
        getattr(user, name)()
    assert len(told) == 1
    assert told[0].startswith("user.py, line ")
    assert told[0].endswith(f", in {name}")


def test_calls_that_come_back_may_go_on_for_ever(user: ModuleType) -> None:
    dog, told = watch(limit_s=0.3)
    with dog:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            with user_code("in forward"):
                pass
    assert told == []


def test_our_own_code_is_never_at_fault(user: ModuleType) -> None:
    dog, told = watch(limit_s=0.05)
    with dog:
        time.sleep(0.4)
    assert told == []


def test_a_sample_that_is_read_in_a_thread_is_found(user: ModuleType) -> None:
    dog, told = watch(limit_s=0.1)
    with dog, ThreadPoolExecutor(1, "samples") as pool, pytest.raises(Abandoned):
        pool.submit(user.loop).result(timeout=PATIENCE_S)
    assert told[0].endswith(", in loop")


def test_whoever_was_asked_to_stop_is_not_waited_for(user: ModuleType) -> None:
    dog, told = watch(stopping=True)
    with pytest.raises(Abandoned), dog, user_code("in forward"):
        user.loop()
    assert told == ["left"]


def test_patience_is_the_budget_or_a_multiple_of_the_least() -> None:
    assert patience_s(300.0, 60.0) == 300.0
    assert patience_s(5.0, 60.0) == 60.0
    assert patience_s(float("inf"), 60.0) == 600.0


PROBE = UnitSpec(key="probe", kind="probe", rung=0, horizon=1, split="validation", trials=[])


def study_of(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    monkeypatch.setattr(training, "_problems", training.ProblemCache())
    (folder / "user.py").write_text(source)
    part = {"kind": "python", "entrypoint": "user.py:it", "folder": str(folder)}
    spec = StudySpec.model_validate({"model": part, "dataset": part, "budget": {"seconds": 0.5}})
    study_id = studies.create_study(database, spec).id
    planning.apply_plan(database, study_id, [PROBE], "test")
    return study_id


def test_a_unit_that_hangs_fails_its_study_for_good(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = study_of(database, tmp_path, monkeypatch, "while True:\n    it = 1\n")
    settings = Settings(hang_s=0.2, own_process=True)
    assert run_one(database, settings, "w") == (Outcome.LOST, study_id)
    study = studies.get_study(database, study_id)
    assert study.status == StudyState.FAILED
    assert study.error is not None
    assert study.error.code == UserCodeError.code
    assert study.error.message.startswith("user.py, line ")
    UserModules()


def test_a_unit_that_hangs_goes_back_when_the_work_is_to_stop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.watchdog.Watchdog.__init__.__defaults__", (0.02, 0.05))
    study_id = study_of(database, tmp_path, monkeypatch, "while True:\n    it = 1\n")
    gone: list[int] = []

    def abandon(ident: int) -> None:
        gone.append(ident)
        end_thread(ident)

    settings = Settings(own_process=True)
    assert run_one(database, settings, "w", stop=lambda: True, abandon=abandon) == (Outcome.LOST, study_id)
    assert gone == [threading.get_ident()]
    with database.read() as session:
        from service.db.models import Unit

        unit = session.query(Unit).one()
        assert (unit.state, unit.attempts) == (UnitState.QUEUED, 0)
    UserModules()
