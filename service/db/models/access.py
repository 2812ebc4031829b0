"""Who may use the service: projects, which own studies, and the keys that open them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.db.base import Base

# Exists from the first migration on; what no project was named for is its.
DEFAULT_PROJECT = "default"


class Project(Base):
    """A group of people whose studies nobody else sees. ``id`` is its name.

    ``max_studies``: that have not ended, at a time; ``max_device_s``: of all its studies together; ``max_stored_bytes``: of its
    uploaded files; None: as many as they like.
    ``deleted_device_s``: of studies that were deleted, so that deleting gives nothing back.
    """

    __tablename__ = "project"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[float] = mapped_column(Double)
    max_studies: Mapped[int | None] = mapped_column(Integer)
    max_device_s: Mapped[int | None] = mapped_column(BigInteger)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    deleted_device_s: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")


class AccessKey(Base):
    """A key, or what a browser holds after it was let in (``kind`` session), which dies with the key that let it in.

    ``digest``: SHA-256 of the secret part, which is 256 random bits; the key itself is stored nowhere. ``hint``: its last four
    characters. ``project_id``: None for a key of the whole server.
    """

    __tablename__ = "access_key"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("project.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("access_key.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    name: Mapped[str | None] = mapped_column(String(100))
    scope: Mapped[str] = mapped_column(String(8))
    digest: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[float] = mapped_column(Double)
    expires_at: Mapped[float | None] = mapped_column(Double)
    revoked_at: Mapped[float | None] = mapped_column(Double)
