"""Who wants to hear of the ends of studies, and what is still to be told."""

from __future__ import annotations

from sqlalchemy import Double, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base
from service.db.models.access import DEFAULT_PROJECT


class Webhook(Base):
    """An address that is told. ``secret`` signs what is sent, so it has to be kept as it is."""

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(
        String(36), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT, index=True
    )
    url: Mapped[str] = mapped_column(String(2048))
    secret: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Double)


class Delivery(Base):
    """Something to be told, written in the transaction in which it became true. ``state``: waiting, delivered, failed,
    or held, where it waited in a backup that was restored.

    ``next_at``: when to try (again); whoever tries moves it on first, so that nobody else does meanwhile and somebody does
    when that process dies. ``status``: of the last answer; ``error``: why it did not count.
    """

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_state_next_at", "state", "next_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"), index=True)
    project_id: Mapped[str] = mapped_column(String(36), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT)
    study_id: Mapped[str] = mapped_column(String(32))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[float] = mapped_column(Double)
    created_at: Mapped[float] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)
    status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(String(200))
