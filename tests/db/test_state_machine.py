"""Random histories of one study: whatever people and workers do in whatever order, the books stay right."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import ColumnElement, update

from optim_core.spec.states import STUDY_ENDED, StudyState, TrialState, UnitState
from service.db import Database
from service.db.models import Unit
from service.operations import events, planning, queue, studies
from service.operations.errors import Conflict
from tests.db.support import make_recommendation, make_result, make_spec, make_unit

MAX_ATTEMPTS = 2
LIVELY_TURNS = 12


def long_enough(machine: StudyMachine) -> bool:
    """Ends come late: a history that ends at once shows nothing."""
    return machine.turns > LIVELY_TURNS


class StudyMachine(RuleBasedStateMachine):
    """Workers may hold claims for as long as they like: every claim ever made may be used again at any time."""

    template: Path
    claims = Bundle("claims")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="whichopt-machine-"))
        path = self.folder / "machine.db"
        shutil.copy(self.template, path)
        self.db = Database(f"sqlite:///{path}")
        self.study_id = studies.create_study(self.db, make_spec()).id
        self.planned = 0
        self.committed: dict[int, int] = {}
        self.fences: dict[int, int] = {}
        self.turns = 0
        for size in (1, 2, 1):
            self.insert(size)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.dispose()
            shutil.rmtree(self.folder)

    def status(self) -> StudyState:
        return studies.get_study(self.db, self.study_id).status

    @rule(size=st.integers(1, 3))
    def plan(self, size: int) -> None:
        self.insert(size)

    def insert(self, size: int) -> None:
        unit = make_unit(f"u{self.planned}", list(range(self.planned * 10, self.planned * 10 + size)))
        added = planning.apply_plan(self.db, self.study_id, [unit], "plan")
        assert planning.apply_plan(self.db, self.study_id, [unit], "replay") == 0
        assert added == (self.status() in (StudyState.QUEUED, StudyState.RUNNING))
        self.planned += added

    @rule(target=claims)
    def claim(self):
        runs = self.status() in (StudyState.QUEUED, StudyState.RUNNING)
        found = queue.claim_unit(self.db, "worker", 60.0)
        if found is not None:
            assert runs
            assert found.token > self.fences.get(found.unit_id, 0)
            assert 1 <= found.attempt <= MAX_ATTEMPTS
            self.fences[found.unit_id] = found.token
        return multiple() if found is None else found

    def holds(self, found: queue.Claim) -> bool:
        """Whether the claim is the unit's latest and the unit still leased."""
        with self.db.read() as session:
            unit = session.get(Unit, found.unit_id)
            return unit is not None and unit.fence == found.token and unit.state == UnitState.LEASED

    @rule(found=claims, diverges=st.booleans())
    def complete(self, found: queue.Claim, diverges: bool) -> None:
        held = self.holds(found)
        first = found.unit.trials[0].number
        result = make_result(found.unit, diverged=(first,) if diverges else ())
        assert queue.complete_unit(self.db, found.unit_id, found.token, result) == held
        if held:
            assert found.unit_id not in self.committed
            self.committed[found.unit_id] = len(found.unit.trials)

    @rule(found=claims)
    def release(self, found: queue.Claim) -> None:
        held = self.holds(found)
        assert queue.release_unit(self.db, found.unit_id, found.token, b"state") == held

    @rule(found=claims, retryable=st.booleans())
    def fail(self, found: queue.Claim, retryable: bool) -> None:
        held = self.holds(found)
        done = queue.fail_unit(self.db, found.unit_id, found.token, "broken", "text", retryable, MAX_ATTEMPTS)
        assert done == held

    @rule(found=claims)
    def beat(self, found: queue.Claim) -> None:
        held, runs = self.holds(found), self.status() in (StudyState.QUEUED, StudyState.RUNNING)
        answer = queue.heartbeat(self.db, found.unit_id, found.token, 60.0)
        assert (answer == "ok") == (held and runs)
        assert held or answer in ("lost", "stop")

    def expire(self, which: ColumnElement[bool]) -> None:
        """Let leases run out without waiting for it, and sweep."""
        with self.db.write() as session:
            session.execute(update(Unit).where(which).values(lease_until=0.0))
        queue.sweep(self.db, MAX_ATTEMPTS)

    @rule(target=claims, frozen=claims)
    def overtake(self, frozen: queue.Claim):
        """A worker sleeps past its lease, another takes over, the first one wakes up and tries everything."""
        if not self.holds(frozen) or self.status() != StudyState.RUNNING or frozen.attempt == MAX_ATTEMPTS:
            return multiple()
        self.expire(Unit.id == frozen.unit_id)
        successor = queue.claim_unit(self.db, "other", 60.0)
        assert successor is not None
        while successor.unit_id != frozen.unit_id:
            self.fences[successor.unit_id] = successor.token
            successor = queue.claim_unit(self.db, "other", 60.0)
            assert successor is not None
        assert successor.token > self.fences[frozen.unit_id] >= frozen.token
        self.fences[frozen.unit_id] = successor.token
        late = (frozen.unit_id, frozen.token)
        assert queue.heartbeat(self.db, *late, 60.0) == "lost"
        assert not queue.save_checkpoint(self.db, *late, b"late")
        assert not queue.release_unit(self.db, *late)
        assert not queue.complete_unit(self.db, *late, make_result(frozen.unit))
        return successor

    @rule()
    def lose_workers(self) -> None:
        self.expire(Unit.state == UnitState.LEASED)
        assert queue.queue_stats(self.db).leased == 0

    @rule(what=st.sampled_from([studies.pause_study, studies.resume_study, studies.resume_study]))
    def pause_or_resume(self, what) -> None:
        before = self.status()
        try:
            after = what(self.db, self.study_id).status
        except Conflict:
            assert self.status() == before
        else:
            assert after == (StudyState.PAUSED if what is studies.pause_study else StudyState.QUEUED)

    @precondition(long_enough)
    @rule()
    def cancel(self) -> None:
        before = self.status()
        after = studies.cancel_study(self.db, self.study_id).status
        assert after == (before if before in STUDY_ENDED else StudyState.CANCELLED)

    @precondition(long_enough)
    @rule()
    def finish(self) -> None:
        runs = self.status() in (StudyState.QUEUED, StudyState.RUNNING)
        assert planning.finish_study(self.db, self.study_id, make_recommendation(self.study_id)) == runs

    @invariant()
    def books_are_right(self) -> None:
        self.turns += 1
        study = studies.get_study(self.db, self.study_id)
        view = planning.study_view(self.db, self.study_id)
        done = [unit for unit in view.units if unit.state == UnitState.DONE]
        assert len(done) == len(self.committed)
        assert all((unit.result is not None) == (unit.state == UnitState.DONE) for unit in view.units)
        assert study.progress.trials_done == sum(self.committed.values())
        trials = studies.list_trials(self.db, self.study_id, limit=500).items
        assert study.progress.trials_planned == len(trials) == sum(len(unit.spec.trials) for unit in view.units)
        assert sum(trial.objective is not None for trial in trials) == study.progress.trials_done
        leased = {t.number for unit in view.units if unit.state == UnitState.LEASED for t in unit.spec.trials}
        assert {trial.number for trial in trials if trial.state == TrialState.RUNNING} == leased
        if study.status == StudyState.CANCELLED:
            assert all(unit.state in (UnitState.DONE, UnitState.CANCELLED, UnitState.FAILED) for unit in view.units)
        assert (study.finished_at is not None) == (study.status in STUDY_ENDED)
        assert (study.error is not None) == (study.status == StudyState.FAILED)
        ids = [event.id for event in events.events_after(self.db, self.study_id, 0)]
        assert ids == list(range(1, len(ids) + 1))


def run(template: Path, examples: int, steps: int) -> None:
    machine = type("Machine", (StudyMachine,), {"template": template})
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # shrinking a history takes minutes; an unshrunk one is short enough to read
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_random_histories_keep_the_books_right(sqlite_template: Path) -> None:
    run(sqlite_template, examples=25, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_long_random_histories_keep_the_books_right(sqlite_template: Path) -> None:
    run(sqlite_template, examples=300, steps=40)
