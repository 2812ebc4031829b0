"""Uploaded files, and which studies use them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base
from service.db.models.access import DEFAULT_PROJECT


class StoredArtifact(Base):
    """A file that somebody uploaded. Its bytes lie in a folder under ``sha256``; ``name`` is a label and nothing more.

    ``content``: what was found in it, in a few words. ``used_at``: when a study last named it, or it was uploaded.
    """

    __tablename__ = "artifact"
    __table_args__ = (
        UniqueConstraint("project_id", "sha256", "format"),
        Index("ix_artifact_sha256", "sha256"),
        Index("ix_artifact_created_at_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(36), default=DEFAULT_PROJECT, server_default=DEFAULT_PROJECT)
    sha256: Mapped[str] = mapped_column(String(64))
    format: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255))
    content: Mapped[str] = mapped_column(String(200))
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Double)
    used_at: Mapped[float] = mapped_column(Double)


class StudyArtifact(Base):
    """A study names an artifact, which cannot be removed for as long."""

    __tablename__ = "study_artifact"

    study_id: Mapped[str] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifact.id"), primary_key=True, index=True)
