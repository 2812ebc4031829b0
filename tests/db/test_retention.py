"""What time does to studies: deadlines, retention, and who comes first."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from optim_core.spec.errors import SpecError
from optim_core.spec.states import StudyState
from optim_core.spec.trial import CurvePoint
from optim_core.spec.validation import parse_spec
from service.db import Database
from service.db.models import Curve, Event, Study
from service.operations import access, deadlines, planning, pruning, queue, studies
from tests.db.support import claim, make_result, make_spec, make_unit, study_with_units


def late(database: Database, study_id: str, seconds: float) -> None:
    with database.write() as session:
        session.execute(update(Study).where(Study.id == study_id).values(deadline=database.now() - seconds))


def with_deadline(database: Database, seconds: float = 100.0) -> str:
    study = studies.create_study(database, make_spec(trials=16, deadline=seconds)).id
    planning.apply_plan(database, study, [make_unit("a", [0]), make_unit("b", [1])], "test")
    return study


def test_past_its_deadline_a_study_answers_from_what_it_has(database: Database) -> None:
    study = with_deadline(database)
    got = claim(database, study)
    queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert deadlines.end_late(database) == []
    late(database, study, 1.0)
    assert deadlines.end_late(database) == [study]
    seen = studies.get_study(database, study)
    assert (seen.status, seen.progress.finishing) == (StudyState.RUNNING, True)
    assert queue.claim_unit(database, "worker", 60.0, study) is None  # nothing more is searched
    assert deadlines.end_late(database) == []
    # Nobody confirms: after the same time again it is over.
    late(database, study, 101.0)
    assert deadlines.end_late(database) == [study]
    failed = studies.get_study(database, study)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (StudyState.FAILED, "deadline_passed")
    assert deadlines.end_late(database) == []
    # Whoever resumes it gives it its time again.
    studies.resume_study(database, study)
    assert deadlines.end_late(database) == []


def test_a_study_of_which_nothing_ended_by_its_deadline_fails(database: Database) -> None:
    study, other = with_deadline(database), study_with_units(database, [make_unit("a", [0])])
    late(database, study, 1.0)
    assert deadlines.end_late(database) == [study]
    assert studies.get_study(database, study).status == StudyState.FAILED
    assert studies.get_study(database, other).status == StudyState.QUEUED


def test_a_deadline_is_no_budget_by_itself() -> None:
    raw = {"model": "mlp", "dataset": "iris", "budget": {"deadline": 60}}
    with pytest.raises(SpecError) as refused:
        parse_spec(raw)
    assert refused.value.code == "budget_required"


def test_a_higher_priority_is_claimed_first(database: Database) -> None:
    ids = {}
    for priority in (0, -5, 7):
        study = studies.create_study(database, make_spec().model_copy(update={"priority": priority})).id
        planning.apply_plan(database, study, [make_unit("a", [0]), make_unit("b", [1])], "test")
        ids[study] = priority
    assert list(planning.active_studies(database)) == sorted(ids, key=lambda one: -ids[one])
    assert [ids[claim(database).study_id] for _ in range(6)] == [7, 7, 0, 0, -5, -5]


def rows(database: Database, table: type) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def test_old_studies_are_removed_a_few_rows_at_a_time(database: Database) -> None:
    old, running = study_with_units(database, [make_unit("a", [0])]), study_with_units(database, [make_unit("a", [0])])
    got = claim(database, old)
    points = [(number, CurvePoint(step=3, train_loss=None, loss=None, value=1.0)) for number in range(95)]
    assert queue.report_progress(database, got.unit_id, got.token, points, 3)
    studies.cancel_study(database, old)
    fresh = studies.create_study(database, make_spec()).id
    studies.cancel_study(database, fresh)
    with database.write() as session:
        session.execute(update(Study).where(Study.id.in_([old, running])).values(finished_at=5.0))
    before = rows(database, Event)
    assert pruning.prune(database, 3600.0, rows=10, batches=4) == []
    assert rows(database, Curve) == 55
    assert rows(database, Event) == before
    with database.write() as session:
        session.execute(update(Study).where(Study.id == old).values(device_s=7.0))
    used = access.list_projects(database)[0].device_s
    assert used >= 7.0
    assert pruning.prune(database, 3600.0, rows=10) == [old]
    assert access.list_projects(database)[0].device_s == pytest.approx(used)  # what was used stays used
    assert rows(database, Curve) == 0
    assert {one.id for one in studies.list_studies(database).items} == {running, fresh}
    assert pruning.prune(database, 3600.0) == []
