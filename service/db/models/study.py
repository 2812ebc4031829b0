"""A study and what belongs to it one to one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, ForeignKey, Index, Integer, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base, JsonType, OptimizerName
from service.db.models.access import DEFAULT_PROJECT


class Study(Base):
    """One question. Counters and best value are kept here at commit time, so that lists never touch the trials.

    ``result_seq`` counts facts that a planner has to look at, ``planned_seq`` how many of them it has seen;
    ``plan_revision`` rises with each decision, so that of two planners at once only one decides. ``standing``: what tuning has
    gained so far, ``forecast``: what the budget buys, as documents of the planner. ``finishing``: an answer is wanted soon.
    ``external``: clients of a person's own loop ask for its units, and no engine worker may claim them. ``turn_at``: when it
    was made or last gave way to others; of one project's studies with work, workers take those of the highest ``priority``, and
    of them the one with the lowest. While it is ``checking``, whoever reads its data has until ``check_until``,
    and while it is active whoever plans; ``error_details``: what was found wrong with its data, field by field. ``deadline``:
    when it has to have its answer, epoch seconds.
    ``covered_until``: the end of the last run that ``elapsed_s`` counts.
    """

    __tablename__ = "study"
    __table_args__ = (
        Index("ix_study_project_id_created_at_id", "project_id", "created_at", "id"),
        Index("ix_study_state", "state"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(
        ForeignKey("project.id"), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT
    )
    name: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(String(255))
    spec: Mapped[dict[str, Any]] = mapped_column(JsonType)
    spec_hash: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str | None] = mapped_column(String(32))
    direction: Mapped[str | None] = mapped_column(String(8))
    stage: Mapped[str | None] = mapped_column(String(16))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)
    started_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    trials_planned: Mapped[int] = mapped_column(Integer, default=0)
    trials_done: Mapped[int] = mapped_column(Integer, default=0)
    confirm_planned: Mapped[int] = mapped_column(Integer, default=0)
    confirm_done: Mapped[int] = mapped_column(Integer, default=0)
    train_steps: Mapped[int] = mapped_column(BigInteger, default=0)
    elapsed_s: Mapped[float] = mapped_column(Double, default=0.0)
    device_s: Mapped[float] = mapped_column(Double, default=0.0)
    best_objective: Mapped[float | None] = mapped_column(Double)
    best_value: Mapped[float | None] = mapped_column(Double)
    best_optimizer: Mapped[str | None] = mapped_column(OptimizerName)
    verdict: Mapped[str | None] = mapped_column(String(16))
    winner: Mapped[str | None] = mapped_column(OptimizerName)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    plan_revision: Mapped[int] = mapped_column(Integer, default=0)
    result_seq: Mapped[int] = mapped_column(Integer, default=1)
    planned_seq: Mapped[int] = mapped_column(Integer, default=0)
    event_seq: Mapped[int] = mapped_column(Integer, default=0)
    standing: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    forecast: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    finishing: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    external: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    check_until: Mapped[float | None] = mapped_column(Double)
    check_tries: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    error_details: Mapped[list[dict[str, Any]] | None] = mapped_column(JsonType)
    turn_at: Mapped[float] = mapped_column(Double, server_default=text("0"))
    priority: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    deadline: Mapped[float | None] = mapped_column(Double)
    covered_until: Mapped[float | None] = mapped_column(Double)


class StoredRecommendation(Base):
    """The answer of a study, as the JSON document that everybody gets."""

    __tablename__ = "recommendation"

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JsonType)
    created_at: Mapped[float] = mapped_column(Double)


class Event(Base):
    """Something that happened. ``id`` counts 1, 2, 3 … within a study, without gaps, in the order of commit."""

    __tablename__ = "event"

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JsonType)
    at: Mapped[float] = mapped_column(Double)


class IdempotencyKey(Base):
    """What a client of the project sent with POST /v1/studies, so that a repeat is known, and the request it stood for."""

    __tablename__ = "idempotency_key"

    project_id: Mapped[str] = mapped_column(
        ForeignKey("project.id"), primary_key=True, default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT
    )
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Double)
