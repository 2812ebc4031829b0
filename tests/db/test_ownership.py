"""A session of one project sees and writes that project's rows alone, whoever wrote the query."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update

from optim_core.spec.states import UnitState
from service.db import Database
from service.db.models import AccessKey, Base, Event, Project, Study, Trial, Unit
from service.db.ownership import is_owned
from service.db.repositories import StudyRepository, UnitRepository
from service.operations import access, planning, queue, studies
from service.operations.errors import NotFound
from service.operations.rowscores import run_rows
from tests.db.support import claim, make_spec, make_unit, study_with_units

# Reached through a unit, by the id that the unit's row gave, which is the study's; and what is above all projects.
THROUGH_ITS_UNIT = {"curve", "checkpoint"}
ABOVE = {"project"}


def test_every_table_belongs_to_a_project_or_is_reached_through_what_does() -> None:
    owned = {mapper.local_table.name for mapper in Base.registry.mappers if is_owned(mapper.class_)}  # type: ignore[attr-defined]
    assert set(Base.metadata.tables) - owned == THROUGH_ITS_UNIT | ABOVE


@pytest.fixture
def theirs(database: Database) -> Database:
    """The database as a project sees it that owns nothing."""
    access.set_quota(database, "theirs")
    return database.of("theirs")


def test_no_query_finds_what_is_of_another_project(database: Database, theirs: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    with theirs.read() as session:
        for model in (Study, Unit, Trial, Event):
            assert session.scalars(select(model)).all() == []
            assert session.scalar(select(func.count()).select_from(model)) == 0
        assert session.execute(select(Trial.number, Unit.id).join(Unit, Unit.study_id == Trial.study_id)).all() == []
        assert session.get(Study, study_id) is None
        assert session.get(Trial, (study_id, 0)) is None
        assert StudyRepository(session).run_times([study_id]) == {}
        assert UnitRepository(session).queue_depth()[0] == 0
    with pytest.raises(NotFound):
        run_rows(theirs, study_id, 0)
    with database.of("default").read() as session:
        assert session.scalar(select(func.count()).select_from(Unit)) == 1


def test_no_statement_changes_what_is_of_another_project(database: Database, theirs: Database) -> None:
    study_id = study_with_units(database, [make_unit("u", [0])])
    held = claim(database)
    with theirs.write() as session:
        session.execute(update(Study).values(state="cancelled"))
        session.execute(delete(Event))
        session.execute(delete(Study).where(Study.id == study_id))
        assert not UnitRepository(session).held(held.unit_id, held.token, step=7)
        assert UnitRepository(session).move_all(study_id, [UnitState.LEASED], UnitState.CANCELLED) == 0
    assert not queue.fail_unit(theirs, held.unit_id, held.token, "x", "y", retryable=False)
    assert planning.apply_plan(theirs, study_id, [make_unit("v", [1])], "z") == 0
    assert studies.get_study(database, study_id).status == "running"
    assert queue.heartbeat(database, held.unit_id, held.token, 60) == "ok"


def test_what_is_written_belongs_to_whose_session_it_is(database: Database, theirs: Database) -> None:
    made = studies.create_study(theirs, make_spec())
    with database.read() as session:
        assert session.scalar(select(Study.project_id)) == "theirs"
        assert session.scalars(select(Project.id).order_by(Project.id)).all() == ["default", "theirs"]
    with theirs.write() as session:
        # Even where the row says otherwise.
        session.add(_row_of(session, made.id))
    assert [s.id for s in studies.list_studies(database.of("default")).items] == []
    assert len(studies.list_studies(theirs).items) == 2


def _row_of(session: object, study_id: str) -> Study:
    found = session.get(Study, study_id)  # type: ignore[attr-defined]
    columns = {c.key: getattr(found, c.key) for c in Study.__mapper__.column_attrs}
    return Study(**{**columns, "id": "f" * 32, "project_id": "default"})


def test_keys_of_others_are_not_seen_either(database: Database, theirs: Database) -> None:
    access.create_key(database)
    mine = access.create_key(database, "theirs")
    with theirs.read() as session:
        assert session.scalars(select(AccessKey.id)).all() == [mine.id]
