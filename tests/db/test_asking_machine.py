"""Random histories of clients that die, come back under their name, race, and say things late: the books stay right."""

from __future__ import annotations

import math
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
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from optim_core.spec.states import STUDY_ENDED, StudyState, TrialState, UnitState
from service.db import Database
from service.db.models import Trial, Unit
from service.operations import asking, events, planning, queue, reporting, studies
from service.operations.asking import Lease
from service.operations.errors import Conflict, ServiceError
from service.operations.reporting import Point, Report
from service.operations.views import AskedTrial
from tests.db.support import make_unit
from tests.db.test_asking import external

CLIENTS = st.sampled_from(["a", "b", "c"])
Given = tuple[str, AskedTrial]


class ClientMachine(RuleBasedStateMachine):
    """Everything that was ever given out may be used again at any time, by whoever got it."""

    template: Path
    given = Bundle("given")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="whichopt-clients-"))
        path = self.folder / "machine.db"
        shutil.copy(self.template, path)
        self.db = Database(f"sqlite:///{path}")
        self.study_id = studies.create_study(self.db, external()).id
        planning.apply_plan(self.db, self.study_id, [make_unit(f"u{i}", [i]) for i in range(4)], "plan")
        self.results: dict[str, float] = {}
        self.told: dict[str, dict[str, object]] = {}
        self.given_out: dict[str, set[str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.dispose()
            shutil.rmtree(self.folder)

    def status(self) -> StudyState:
        return studies.get_study(self.db, self.study_id).status

    def unit(self, trial: AskedTrial) -> Unit:
        with self.db.read() as session:
            found = session.get(Unit, int(trial.token.split(".")[0]))
            assert found is not None
            return found

    def holds(self, one: Given) -> bool:
        client, trial = one
        unit = self.unit(trial)
        fence = int(trial.token.split(".")[1])
        return (unit.state, unit.fence, unit.worker_id) == (UnitState.LEASED, fence, client)

    @rule(target=given, client=CLIENTS)
    def ask(self, client: str):
        status = self.status()
        before = {c.id: c.trial for c in asking.clients(self.db, self.study_id)}
        found = asking.ask(self.db, self.study_id, client, Lease(60.0, 15.0))
        assert found.ended == (status in STUDY_ENDED)
        if found.trial is None:
            return multiple()
        assert 1 <= found.trial.attempt <= queue.CLIENT_ATTEMPTS
        if before.get(client) is not None:
            assert found.trial.number == before[client], "a client that comes back gets what it held"
        else:
            unit = found.trial.token.split(".")[0]
            tokens = self.given_out.setdefault(unit, set())
            assert found.trial.token not in tokens, "a token is given out once"
            tokens.add(found.trial.token)
        return client, found.trial

    @rule(one=given, step=st.integers(0, 100), loss=st.one_of(st.floats(0, 9), st.just(math.nan)))
    def report(self, one: Given, step: int, loss: float) -> None:
        client, trial = one
        held, ended = self.holds(one), self.status() in STUDY_ENDED
        before = studies.get_trial(self.db, self.study_id, trial.number).curve
        told = Report(self.study_id, trial.number, client, trial.token, [Point(step, loss)])
        decision = reporting.report(self.db, told, 60.0)
        assert decision.go_on == (held and not ended and math.isfinite(loss))
        if not held:
            assert studies.get_trial(self.db, self.study_id, trial.number).curve == before
        elif not math.isfinite(loss):
            self.results[trial.token] = math.nan

    @rule(one=given, value=st.floats(0, 1), fails=st.booleans())
    def tell(self, one: Given, value: float, fails: bool) -> None:
        client, trial = one
        held, done = self.holds(one), self.unit(trial).state == UnitState.DONE
        told = {"failed": "broken"} if fails else {"value": value}

        def tell():
            return asking.tell(self.db, self.study_id, trial.number, client, trial.token, **told)  # type: ignore[arg-type]

        if not held and trial.token not in self.results:
            with pytest.raises(Conflict) as refused:
                tell()
            lives = self.unit(trial).state in (UnitState.QUEUED, UnitState.LEASED)
            assert refused.value.code == ("lease_lost" if lives else "trial_finished")
            return
        if not held and self.unit(trial).worker_id != client:
            return
        if not held and self.told.get(trial.token) != told:
            with pytest.raises(Conflict) as refused:
                tell()
            assert refused.value.code == "trial_finished"
            return
        answer = tell()
        if held:
            self.told[trial.token] = told
            assert trial.token not in self.results
            self.results[trial.token] = math.nan if fails else value
            assert answer.state == (TrialState.FAILED if fails else TrialState.COMPLETED)
        else:
            assert done
            assert trial.token in self.results, "only who ended it is answered again"

    @rule(one=given)
    def release(self, one: Given) -> None:
        client, trial = one
        held, attempts = self.holds(one), self.unit(trial).attempts
        assert asking.release(self.db, self.study_id, trial.number, client, trial.token).released == held
        if held:
            assert self.unit(trial).state == UnitState.QUEUED
            assert self.unit(trial).attempts == attempts - 1

    @rule(client=CLIENTS)
    def die(self, client: str) -> None:
        """The client is gone: its lease runs out and somebody notices."""
        with self.db.write() as session:
            mine = (Unit.study_id == self.study_id, Unit.worker_id == client, Unit.state == UnitState.LEASED)
            lost = {f"{u.id}.{u.fence}": u.attempts for u in session.scalars(select(Unit).where(*mine))}
            session.execute(update(Unit).where(*mine).values(lease_until=1.0))
        swept = queue.sweep(self.db)
        assert len(swept.requeued) + len(swept.failed) == len(lost)
        for token, attempts in lost.items():
            if attempts == queue.CLIENT_ATTEMPTS:
                self.results[token] = math.nan

    @rule()
    def finish(self) -> None:
        try:
            studies.finish_study(self.db, self.study_id)
        except ServiceError:
            assert not self.results

    @rule(sure=st.integers(0, 9))
    def cancel(self, sure: int) -> None:
        if sure == 0:
            studies.cancel_study(self.db, self.study_id)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "db"):
            return
        with self.db.read() as session:
            units = {u.id: u for u in session.scalars(select(Unit))}
            trials = {t.number: t for t in session.scalars(select(Trial))}
        done = [u for u in units.values() if u.state == UnitState.DONE]
        assert {f"{u.id}.{u.fence}" for u in done} == set(self.results)
        assert studies.get_study(self.db, self.study_id).progress.trials_done == len(done)
        for unit in units.values():
            [number] = [t["number"] for t in unit.spec["trials"]]
            trial = trials[number]
            # No zombie: what runs is held by somebody, and what has ended is held by nobody.
            assert (trial.state == TrialState.RUNNING) == (unit.state == UnitState.LEASED)
            assert (unit.lease_until is not None) == (unit.state == UnitState.LEASED)
            if unit.state == UnitState.DONE:
                value = self.results[f"{unit.id}.{unit.fence}"]
                assert trial.metric == (None if math.isnan(value) else value)
        held = [u.worker_id for u in units.values() if u.state == UnitState.LEASED]
        assert len(held) == len(set(held)), "a client holds one trial"
        history = events.events_after(self.db, self.study_id, 0, 5000)
        assert [event.id for event in history] == list(range(1, len(history) + 1))


@pytest.mark.parametrize("steps", [30])
def test_clients_that_die_return_and_race_leave_the_books_right(sqlite_template: Path, steps: int) -> None:
    ClientMachine.template = sqlite_template
    run_state_machine_as_test(
        ClientMachine,
        settings=settings(
            max_examples=25, stateful_step_count=steps, deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )  # fmt: skip
