"""Whose rows a session sees. In a session of one project every query gets that project's condition and every new row its id,
whoever wrote the query: SQLAlchemy's global ``with_loader_criteria``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from service.db.base import Base
from service.db.models import DEFAULT_PROJECT, Study

PROJECT = "project_id"


def owner(session: Session) -> str:
    """The project that what this session writes belongs to."""
    return session.info.get(PROJECT, DEFAULT_PROJECT)


def is_owned(model: type[Base]) -> bool:
    """Whether rows of ``model`` belong to a project, by themselves or as parts of a study."""
    return hasattr(model, "project_id") or hasattr(model, "study_id")


@lru_cache(maxsize=4096)
def _conditions(project_id: str, models: frozenset[Any]) -> tuple[Any, ...]:
    own = select(Study.id).where(Study.project_id == project_id).scalar_subquery()
    return tuple(
        with_loader_criteria(
            model, model.project_id == project_id if hasattr(model, "project_id") else model.study_id.in_(own)
        )
        for model in models
        if is_owned(model)
    )


def confine(sessions: type[Session]) -> None:
    """Make sessions of this class whose ``info`` names a project see and write that project's rows alone."""

    @event.listens_for(sessions, "do_orm_execute", propagate=True)
    def _see_own(state: ORMExecuteState) -> None:
        project_id = state.session.info.get(PROJECT)
        if project_id is not None and state.is_orm_statement and not state.is_column_load:
            # A statement that only counts rows has no entities of its own: then of all models.
            mappers = state.all_mappers or Base.registry.mappers
            models = frozenset(mapper.class_ for mapper in mappers)
            state.statement = state.statement.options(*_conditions(project_id, models))  # type: ignore[attr-defined]

    @event.listens_for(sessions, "before_flush", propagate=True)
    def _write_own(session: Session, *_: object) -> None:
        project_id = session.info.get(PROJECT)
        if project_id is not None:
            for row in session.new:
                if hasattr(row, "project_id"):
                    row.project_id = project_id
