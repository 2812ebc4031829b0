"""Trials, the units of work that train them, and what running units leave behind."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base, BigId, JsonType, OptimizerName


class Trial(Base):
    """One configuration with one seed. Result columns are those of its highest rung so far; ``unit_id`` ran last.

    ``fold`` and ``roles``: as in ``optim_core.spec.trial``. ``scores``: of a confirmed run, split → its metric and its rows.
    ``excluded``: why a person left it out of the answer.
    """

    __tablename__ = "trial"
    __table_args__ = (
        Index("ix_trial_study_id_objective_number", "study_id", "objective", "number"),
        Index("ix_trial_unit_id", "unit_id"),
    )

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    optimizer: Mapped[str] = mapped_column(OptimizerName)
    configuration: Mapped[dict[str, Any]] = mapped_column(JsonType)
    seed: Mapped[int] = mapped_column(BigId)
    stage: Mapped[str] = mapped_column(String(16))
    origin: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    rung: Mapped[int] = mapped_column(Integer)
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("unit.id", ondelete="SET NULL"))
    objective: Mapped[float | None] = mapped_column(Double)
    metric: Mapped[float | None] = mapped_column(Double)
    loss: Mapped[float | None] = mapped_column(Double)
    diverged_at_step: Mapped[int | None] = mapped_column(Integer)
    steps: Mapped[int] = mapped_column(Integer, default=0)
    fold: Mapped[int | None] = mapped_column(Integer)
    roles: Mapped[list[str] | None] = mapped_column(JsonType)
    scores: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    excluded: Mapped[str | None] = mapped_column(String(500))


class Unit(Base):
    """One claimable piece of work. ``fence`` rises with every claim: a write that carries an older one is refused.

    ``claimed_at``..``finished_at`` is the run that counted; ``step`` how far the running attempt has come. ``spent_s``: how
    long its checkpoint took; ``claimed_at`` of whoever goes on from there lies so much earlier, ``leased_at`` is when the
    latest lease began. ``instance``: which process of a client of a loop holds it, where it said so.
    """

    __tablename__ = "unit"
    __table_args__ = (
        UniqueConstraint("study_id", "key"),
        Index("ix_unit_state_id", "state", "id"),
        Index("ix_unit_study_id_state", "study_id", "state"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    rung: Mapped[int] = mapped_column(Integer)
    horizon: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    spec: Mapped[dict[str, Any]] = mapped_column(JsonType)
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    worker_id: Mapped[str | None] = mapped_column(String(200))
    instance: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[float | None] = mapped_column(Double)
    spent_s: Mapped[float] = mapped_column(Double, default=0.0, server_default=text("0"))
    step: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Double)
    claimed_at: Mapped[float | None] = mapped_column(Double)
    leased_at: Mapped[float | None] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class DeviceUse(Base):
    """Device seconds of a project's units that ended in one slice of five minutes; ``bucket`` counts them since 1970."""

    __tablename__ = "device_use"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    bucket: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seconds: Mapped[float] = mapped_column(Double)


class Curve(Base):
    """A trial's learning curve in one unit: the live one while it runs, the committed one afterwards. ``points``: bounded in
    number, as ``optim_core.spec.curves.packed`` writes them.
    """

    __tablename__ = "curve"

    unit_id: Mapped[int] = mapped_column(ForeignKey("unit.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    points: Mapped[bytes] = mapped_column(LargeBinary)


class Checkpoint(Base):
    """The latest saved state of a running unit. ``sha256`` is of ``data``: a torn checkpoint is not used."""

    __tablename__ = "checkpoint"

    unit_id: Mapped[int] = mapped_column(ForeignKey("unit.id", ondelete="CASCADE"), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
    saved_at: Mapped[float] = mapped_column(Double)


class Worker(Base):
    """A process that claims units, and when it was last heard of. ``study_id``: of a client of that study's own loop, whose
    ``id`` is the study's, a colon and its own name; null for engine workers.
    """

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    device: Mapped[str | None] = mapped_column(String(200))
    study_id: Mapped[str | None] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    first_seen: Mapped[float] = mapped_column(Double)
    last_seen: Mapped[float] = mapped_column(Double)
