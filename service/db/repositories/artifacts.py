"""Uploaded files and the studies that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, exists, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from service.db.models import StoredArtifact, StudyArtifact

_NAMED = exists().where(StudyArtifact.artifact_id == StoredArtifact.id)


class ArtifactRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def lock(self, sha256: str) -> None:
        """Until the transaction ends nobody else puts or removes a file of this hash. On SQLite the write transaction is the
        lock.
        """
        if self.session.get_bind().dialect.name == "postgresql":
            key = int.from_bytes(bytes.fromhex(sha256[:16]), "big", signed=True)
            self.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def get(self, artifact_id: str) -> StoredArtifact | None:
        return self.session.scalar(select(StoredArtifact).where(StoredArtifact.id == artifact_id))

    def some(self, ids: Iterable[str]) -> Sequence[StoredArtifact]:
        return self.session.scalars(select(StoredArtifact).where(StoredArtifact.id.in_(list(ids)))).all()

    def known(self, sha256: str, fmt: str) -> StoredArtifact | None:
        """The file with these bytes, taken for this format."""
        query = select(StoredArtifact).where(StoredArtifact.sha256 == sha256, StoredArtifact.format == fmt)
        return self.session.scalar(query.limit(1))

    def add(self, artifact: StoredArtifact) -> None:
        self.session.add(artifact)
        self.session.flush()

    def page(self, sha256: str | None, after: tuple[float, str] | None, limit: int) -> Sequence[StoredArtifact]:
        """Newest first, strictly after the position (created_at, id)."""
        query = select(StoredArtifact).order_by(StoredArtifact.created_at.desc(), StoredArtifact.id.desc()).limit(limit)
        if sha256 is not None:
            query = query.where(StoredArtifact.sha256 == sha256)
        if after is not None:
            query = query.where(tuple_(StoredArtifact.created_at, StoredArtifact.id) < tuple_(*after))
        return self.session.scalars(query).all()

    def name_in(self, study_id: str, ids: Iterable[str], now: float) -> None:
        """Note that a study uses these."""
        ids = sorted(set(ids))
        self.session.add_all(StudyArtifact(study_id=study_id, artifact_id=one) for one in ids)
        self.touch(ids, now)
        self.session.flush()

    def touch(self, ids: Sequence[str], now: float) -> None:
        self.session.execute(
            update(StoredArtifact)
            .where(StoredArtifact.id.in_(ids))
            .values(used_at=now)
            .execution_options(synchronize_session=False)
        )

    def touch_named(self, now: float) -> None:
        """What studies name is in use now."""
        self.session.execute(
            update(StoredArtifact).where(_NAMED).values(used_at=now).execution_options(synchronize_session=False)
        )

    def is_named(self, artifact_id: str) -> bool:
        """Whether a study names it."""
        query = select(StudyArtifact.artifact_id).where(StudyArtifact.artifact_id == artifact_id).limit(1)
        return self.session.scalar(query) is not None

    def delete(self, artifact: StoredArtifact) -> None:
        self.session.delete(artifact)
        self.session.flush()

    def delete_unused(self, before: float, limit: int) -> int:
        """Remove rows that no study names and that nobody used since; how many."""
        old = select(StoredArtifact.id).where(~_NAMED, StoredArtifact.used_at < before).limit(limit)
        done = self.session.execute(
            delete(StoredArtifact).where(StoredArtifact.id.in_(old)).execution_options(synchronize_session=False)
        )
        return done.rowcount  # type: ignore[attr-defined]

    def total(self) -> tuple[int, int]:
        """(files, bytes) of all rows."""
        count, size = self.session.execute(select(func.count(), func.sum(StoredArtifact.size))).one()
        return count, int(size or 0)
