"""Use cases of the planner: look at a study, decide, write the decision down.

Planning takes seconds of CPU, so no transaction stays open meanwhile: SQLite has one writer, and on PostgreSQL a held
row would stall every commit of the study. Instead a decision names the revision of the view it was made from and is
refused when another planner has decided since; unit keys are unique in a study, so a replay inserts nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from optim_core.spec.keys import canonical_json
from optim_core.spec.problem import StudySpec
from optim_core.spec.recommendation import Recommendation
from optim_core.spec.states import StudyState, TrialState, UnitState
from optim_core.spec.trial import StudyView, UnitResult, UnitSpec, UnitView
from service.db import Database
from service.db.models import Study, Unit, Worker
from service.db.repositories import StudyRepository, TrialRepository, UnitRepository
from service.db.repositories.studies import ACTIVE
from service.operations import results
from service.operations.errors import study_not_found

# A worker that was not heard of for so long is not counted on: two heartbeats and a bit.
PLANNED_WORKERS_S = 40.0
# A planner that was not done after so long is not waited for: its worker may have died.
PLAN_LEASE_S = 15.0
# Studies of which one is looked for at a time.
MOST_NAMED = 200


def study_view(db: Database, study_id: str) -> StudyView:
    """Everything the planner may look at, from one snapshot. NotFound when there is no such study."""
    with db.read() as session:
        study = StudyRepository(session).get(study_id)
        if study is None:
            raise study_not_found(study_id)
        return _view(session, study)


def _view(session: Session, study: Study) -> StudyView:
    elapsed_s, device_s = StudyRepository(session).run_times([study.id]).get(study.id, (0.0, 0.0))
    spec = StudySpec.model_validate_json(canonical_json(study.spec))
    return StudyView(
        study_id=study.id,
        spec=spec,
        units=_ended_units.of(session, study.id),
        elapsed_s=elapsed_s,
        device_s=device_s,
        workers=_workers(session, study, spec),
        finishing=study.finishing,
        excluded=TrialRepository(session).excluded(study.id),
    )


def _workers(session: Session, study: Study, spec: StudySpec) -> int:
    """Workers that may share the study, or clients of its own loop: those alive now, at most as many as the budget allows."""
    alive = len(alive_workers(session, study.id if study.external else None))
    return max(1, min(alive, spec.budget.workers or alive))


def alive_workers(session: Session, clients_of: str | None = None) -> Sequence[Worker]:
    """Engine workers, or clients of one study, that were heard of lately."""
    return UnitRepository(session).workers(StudyRepository(session).now() - PLANNED_WORKERS_S, clients_of)


class _EndedUnits:
    """Units of the last study that was looked at, as a planner sees them. What has ended never changes, so it is read and
    checked once, not at every turn.
    """

    def __init__(self) -> None:
        self._study_id = ""
        self._known: dict[int, UnitView] = {}
        self._lock = threading.Lock()

    def of(self, session: Session, study_id: str) -> list[UnitView]:
        """All units of the study, in the order in which they were queued."""
        repository = UnitRepository(session)
        states = repository.states(study_id)
        with self._lock:
            ended = dict(self._known) if self._study_id == study_id else {}
        fresh = {unit.id: _unit_view(unit) for unit in repository.some(i for i, _ in states if i not in ended)}
        views = {**ended, **fresh}
        with self._lock:
            self._study_id = study_id
            self._known = {i: view for i, view in views.items() if view.state == UnitState.DONE}
        return [views[unit_id] for unit_id, _ in states if unit_id in views]


_ended_units = _EndedUnits()


def _unit_view(unit: Unit) -> UnitView:
    return UnitView(
        spec=UnitSpec.model_validate_json(canonical_json(unit.spec)),
        state=UnitState(unit.state),
        result=None if unit.result is None else UnitResult.model_validate_json(canonical_json(unit.result)),
        error=unit.error_message if unit.state == UnitState.DONE else None,
    )


def study_spec(db: Database, study_id: str) -> StudySpec | None:
    """What was asked; None when there is no such study."""
    with db.read() as session:
        study = StudyRepository(session).get(study_id)
        return None if study is None else StudySpec.model_validate_json(canonical_json(study.spec))


def active_studies(db: Database, study_id: str | None = None) -> dict[str, bool]:
    """Active studies (or this one, if it is), oldest first, and whether each waits for a planner.

    It does with news that no planner has seen, or with nothing left to run; not while one is at it.
    """
    with db.read() as session:
        return dict(StudyRepository(session).active(study_id))


@dataclass
class Advance:
    """One planner's turn. ``view`` is what to plan from; then at most one of the three decisions.

    Each decision returns False, and writes nothing, when another planner was faster or the study no longer runs.
    ``standing`` and ``forecast``: what the planner says of the study's way so far, stored with the decision.
    """

    db: Database
    view: StudyView
    revision: int
    result_seq: int
    standing: dict[str, Any] | None = None
    forecast: dict[str, Any] | None = None
    decided: bool = field(default=False, init=False)

    def apply_plan(self, units: list[UnitSpec], note: str) -> bool:
        """Put units (and their new trials) into the queue."""
        with self._turn() as (session, study):
            if study is None:
                return False
            _insert_units(session, study, units, note)
            return True

    def finish(self, recommendation: Recommendation) -> bool:
        """Store the answer and complete the study."""
        with self._turn() as (session, study):
            return study is not None and _finish(session, study, recommendation)

    def fail(self, code: str, message: str) -> bool:
        """End the study as failed."""
        with self._turn() as (session, study):
            return study is not None and results.fail(session, study, code, message, StudyRepository(session).now())

    def wait(self) -> bool:
        """Note that there is nothing to decide yet. The block of ``turn_of`` does so when nothing was decided."""
        with self._turn() as (_, study):
            return study is not None

    @contextmanager
    def _turn(self) -> Iterator[tuple[Session, Study | None]]:
        self.decided = True
        with self.db.write() as session:
            study = StudyRepository(session).lock(self.view.study_id)
            if study is not None and (study.plan_revision != self.revision or study.state not in ACTIVE):
                study = None
            if study is not None:
                study.plan_revision += 1
                study.check_until = None
                study.planned_seq = max(study.planned_seq, self.result_seq)
                study.standing, study.forecast = self.standing or study.standing, self.forecast or study.forecast
                self.revision = study.plan_revision
            yield session, study


def begin_one(db: Database, study_ids: Sequence[str]) -> str | None:
    """Keep one of these studies for the caller to plan; None when others are at all of them.

    All workers of a cluster see news at the same moment. One plans, which takes seconds; the others plan another or train.
    """
    with db.read() as session:
        # Workers plan, clients of a loop do not; where there is one nothing has to be written first.
        if len(alive_workers(session)) <= 1:
            return study_ids[0]
    with db.write() as session:
        return StudyRepository(session).begin_plan(study_ids[:MOST_NAMED], PLAN_LEASE_S)


@contextmanager
def turn_of(db: Database, study_id: str) -> Iterator[Advance | None]:
    """The turn of whoever ``begin_one`` gave the study to; None when it is gone or does not run. No lock is held while the
    caller plans.
    """
    with db.read() as session:
        study, turn = StudyRepository(session).get(study_id), None
        if study is not None and study.state in ACTIVE:
            turn = Advance(db, _view(session, study), study.plan_revision, study.result_seq)
    yield turn
    if turn is not None and not turn.decided:
        turn.wait()


def apply_plan(db: Database, study_id: str, units: list[UnitSpec], note: str) -> int:
    """Put units into the queue whatever was decided meanwhile; how many were new. 0 when the study does not run."""
    with db.write() as session:
        study = StudyRepository(session).lock(study_id)
        if study is None or study.state not in ACTIVE:
            return 0
        study.plan_revision += 1
        return _insert_units(session, study, units, note)


def finish_study(db: Database, study_id: str, recommendation: Recommendation) -> bool:
    """Store the answer and complete the study; False when it does not run."""
    with db.write() as session:
        study = StudyRepository(session).lock(study_id)
        return study is not None and study.state in ACTIVE and _finish(session, study, recommendation)


def fail_study(db: Database, study_id: str, code: str, message: str) -> bool:
    """End the study as failed; False when it does not run."""
    with db.write() as session:
        studies = StudyRepository(session)
        study = studies.lock(study_id)
        return study is not None and results.fail(session, study, code, message, studies.now())


def _insert_units(session: Session, study: Study, units: list[UnitSpec], note: str) -> int:
    repository, trials, studies = UnitRepository(session), TrialRepository(session), StudyRepository(session)
    known = repository.known_keys(study.id, [unit.key for unit in units])
    new = [unit for unit in units if unit.key not in known]
    if not new:
        return 0
    now = studies.now()
    planned = {trial.number: (trial, unit) for unit in new for trial in unit.trials}
    existing = trials.known(study.id, planned)
    trials.must_move(study.id, sorted(existing), TrialState.WAITING)  # promoted to their next rung
    rows = [
        {
            "study_id": study.id,
            "number": number,
            "optimizer": trial.configuration.optimizer,
            "configuration": trial.configuration.model_dump(mode="json"),
            "seed": trial.seed,
            "stage": trial.stage,
            "origin": trial.origin,
            "state": TrialState.WAITING.value,
            "rung": unit.rung,
            "fold": unit.fold,
            "roles": list(trial.roles),
        }
        for number, (trial, unit) in planned.items()
        if number not in existing
    ]
    trials.add(rows)
    repository.add(
        [
            {
                "study_id": study.id,
                "key": unit.key,
                "kind": unit.kind,
                "rung": unit.rung,
                "horizon": unit.horizon,
                "state": UnitState.QUEUED.value,
                "spec": unit.model_dump(mode="json"),
                "created_at": now,
            }
            for unit in new
        ]
    )
    study.trials_planned += len(rows)
    study.confirm_planned += sum(row["stage"] in ("screen", "confirm") for row in rows)
    study.stage, study.note = _stage(new), note
    studies.add_event(study, "stage", {"stage": study.stage, "note": note}, now)
    return len(new)


def _stage(units: list[UnitSpec]) -> str:
    last = [unit for unit in units if unit.kind != "reference"][-1]
    if last.kind != "train":
        return last.kind
    return last.trials[-1].stage if last.trials else "search"


def _finish(session: Session, study: Study, recommendation: Recommendation) -> bool:
    studies = StudyRepository(session)
    now = studies.now()
    if study.state == StudyState.QUEUED:  # resumed when only the answer was missing
        studies.move(study, StudyState.RUNNING, started_at=study.started_at or now)
        studies.add_event(study, "study.state", {"state": study.state}, now)
    winner = recommendation.recommended.optimizer
    if not studies.move(study, StudyState.COMPLETED, finished_at=now, verdict=recommendation.verdict, winner=winner):
        return False
    study.stage = "done"
    studies.set_recommendation(study.id, recommendation.document(), now)
    TrialRepository(session).mark_pruned(study.id)
    studies.add_event(study, "recommendation", {"verdict": study.verdict, "winner": winner}, now)
    studies.add_event(study, "study.state", {"state": study.state}, now)
    return True
