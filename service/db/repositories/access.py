"""Projects and keys. Sessions of one project are for what it owns; these are asked by whoever guards the door."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from optim_core.spec.states import STUDY_ENDED, UnitState
from service.db.base import db_epoch
from service.db.models import AccessKey, Project, StoredArtifact, Study, Unit
from service.db.repositories.units import TAKEN_S


def _valid(key: type[AccessKey]) -> ColumnElement[bool]:
    return and_(key.revoked_at.is_(None), or_(key.expires_at.is_(None), key.expires_at > db_epoch()))


def _opening(what: Any) -> Select[Any]:
    parent = aliased(AccessKey)
    query = select(what).outerjoin(parent, parent.id == AccessKey.parent_id).where(_valid(AccessKey))
    return query.where(or_(AccessKey.parent_id.is_(None), _valid(parent)))


class AccessRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def now(self) -> float:
        """Epoch seconds by the database's clock."""
        return self.session.execute(select(db_epoch())).scalar_one()

    def valid_key(self, key_id: str, kind: str) -> AccessKey | None:
        """The key, unless it was revoked or has expired, or that has happened to the key that let it in."""
        query = _opening(AccessKey).where(AccessKey.id == key_id, AccessKey.kind == kind)
        return self.session.scalars(query).one_or_none()

    def valid_keys(self, key_ids: Collection[str]) -> set[str]:
        """Those of the keys, of any kind, that ``valid_key`` would find."""
        return set(self.session.scalars(_opening(AccessKey.id).where(AccessKey.id.in_(key_ids))))

    def any_valid_key(self) -> bool:
        query = select(AccessKey.id).where(AccessKey.kind == "key", _valid(AccessKey)).limit(1)
        return self.session.scalar(query) is not None

    def all_keys(self) -> Sequence[AccessKey]:
        """All keys and sessions, oldest first."""
        return self.session.scalars(select(AccessKey).order_by(AccessKey.created_at, AccessKey.id)).all()

    def add_key(self, key: AccessKey) -> None:
        self.session.add(key)
        self.session.flush()

    def revoke(self, key_id: str) -> bool:
        """False when there is no such key. One that was revoked before stays as it is."""
        self.session.execute(
            update(AccessKey)
            .where(AccessKey.id == key_id, AccessKey.revoked_at.is_(None))
            .values(revoked_at=db_epoch())
            .execution_options(synchronize_session=False)
        )
        return self.session.get(AccessKey, key_id) is not None

    def drop_old_sessions(self) -> None:
        """Forget the browsers whose time is over."""
        self.session.execute(
            delete(AccessKey)
            .where(AccessKey.kind == "session", ~_valid(AccessKey))
            .execution_options(synchronize_session=False)
        )

    def projects(self) -> Sequence[Project]:
        return self.session.scalars(select(Project).order_by(Project.id)).all()

    def project(self, project_id: str) -> Project:
        """The project, made when there is none; its row is locked until the transaction ends."""
        query = select(Project).where(Project.id == project_id).with_for_update(key_share=True)
        found = self.session.scalars(query).one_or_none()
        if found is None:
            found = Project(id=project_id, created_at=self.now(), deleted_device_s=0.0)
            try:
                with self.session.begin_nested():
                    self.session.add(found)
            except IntegrityError:  # somebody else made it in this moment
                found = self.session.scalars(query).one()
        return found

    def limits(self, project_id: str, lock: bool = True) -> Project | None:
        """The project, locked, if it has a quota: then what it uses is counted one after the other."""
        quotas = (Project.max_studies, Project.max_device_s, Project.max_stored_bytes)
        query = select(Project).where(Project.id == project_id, or_(*(quota.is_not(None) for quota in quotas)))
        return self.session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()

    def open_studies(self, project_id: str) -> int:
        """Studies that have not ended."""
        query = select(func.count()).select_from(Study).where(Study.project_id == project_id)
        return self.session.scalar(query.where(Study.state.not_in(list(STUDY_ENDED)))) or 0

    def device_s(self, project: Project) -> float:
        """Device seconds up to now of all studies there ever were."""
        return self._spent(Study.project_id == project.id) + project.deleted_device_s

    def _spent(self, whose: ColumnElement[bool]) -> float:
        """What ended units took, what the others took so far."""
        open_ones = select(func.sum(TAKEN_S)).select_from(Unit).join(Study, Study.id == Unit.study_id).where(whose)
        others = open_ones.where(Unit.state.in_([one for one in UnitState if one != UnitState.DONE]))
        ended = self.session.scalar(select(func.sum(Study.device_s)).where(whose))
        return (ended or 0.0) + max(0.0, self.session.scalar(others) or 0.0)

    def stored_bytes(self, project_id: str) -> int:
        """Of its uploaded files."""
        query = select(func.sum(StoredArtifact.size)).where(StoredArtifact.project_id == project_id)
        return int(self.session.scalar(query) or 0)

    def keep_spent(self, study: Study) -> None:
        """Device seconds of a study that is being deleted."""
        self.session.flush()
        self.session.execute(
            update(Project)
            .where(Project.id == study.project_id)
            .values(deleted_device_s=Project.deleted_device_s + self._spent(Study.id == study.id))
            .execution_options(synchronize_session=False)
        )
