"""Use cases of whoever operates the service, and of its door: projects with their quotas, keys, and who a key lets in.

A key is ``wo_ID_SECRET``: the id finds its row, the secret is 256 random bits of which only the SHA-256 is stored. That needs
no slow hash: nobody can try that many. Every function is one transaction. What is managed is what whoever asks may see: an
admin key of a project has that project's keys and quota, one of the whole server everything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from sqlalchemy.orm import Session

from service.db import Database
from service.db.models import DEFAULT_PROJECT, AccessKey, Project
from service.db.repositories import AccessRepository
from service.operations.errors import NotFound, ServiceError, invalid_parameter
from service.operations.views import KeyView, NewKeyView, ProjectView

Scope = Literal["read", "write", "admin", "metrics"]
# Each includes those before it; ``metrics`` reads the figures of the server and nothing else.
LADDER: tuple[Scope, ...] = ("read", "write", "admin")
# Keys of these are of the whole server unless a project is named.
OF_THE_SERVER: tuple[Scope, ...] = ("admin", "metrics")
# A browser that was let in asks for a key again after so long.
SESSION_S = 7 * 86400.0
# A full quota is looked at again so soon, by a client that waits.
QUOTA_RETRY_S = 60
PROJECT_NAME = r"^[a-z0-9][a-z0-9-]{0,35}$"
_KEY = re.compile(r"wo_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Caller:
    """Who was let in. ``project``: None for a key of the whole server. ``key_id``: None for whoever has the server's own key,
    which no table knows. ``parent_id``: of the key that let a browser in.
    """

    project: str | None
    scope: Scope
    key_id: str | None = None
    kind: Literal["key", "session"] = "key"
    parent_id: str | None = None

    @property
    def project_id(self) -> str:
        """Whose studies the caller sees."""
        return self.project or DEFAULT_PROJECT

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope, by itself or as part of a larger one."""
        if scope == self.scope:
            return True
        if scope == "metrics":
            return self.scope == "admin" and self.project is None
        return self.scope in LADDER and LADDER.index(self.scope) > LADDER.index(scope)


OWNER = Caller(None, "admin")


def new_secret() -> str:
    """A key that belongs to no row yet."""
    return f"wo_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """What is stored and compared of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def named(presented: str) -> str | None:
    """The id in what was presented, which may be told to anybody; None where it has not the form of a key."""
    parts = _KEY.fullmatch(presented)
    return None if parts is None else parts[1]


def caller_of(db: Database, presented: str, kind: Literal["key", "session"] = "key") -> Caller | None:
    """Whom this key, or what this browser sends, lets in; None: nobody."""
    parts = _KEY.fullmatch(presented)
    if parts is None:
        return None
    with db.read() as session:
        found = AccessRepository(session).valid_key(parts[1], kind)
    # An unknown id takes the same way, so that time does not tell it from a wrong secret.
    stored = digest("") if found is None else found.digest
    right = hmac.compare_digest(stored, digest(parts[2]))
    if found is None or not right:
        return None
    return Caller(found.project_id, found.scope, found.id, kind, found.parent_id)  # type: ignore[arg-type]


def any_key(db: Database) -> bool:
    """Whether there is a key that would let anybody in."""
    with db.read() as session:
        return AccessRepository(session).any_valid_key()


def create_key(
    db: Database, project: str | None = None, scope: Scope = "write", name: str | None = None,
    days: float | None = None, by: Caller = OWNER,
) -> NewKeyView:  # fmt: skip
    """A new key of a project, which is made where there is none. ``days``: until it expires; None: never.

    ``project``: None for that of the key that asks; where this is of the whole server, ``default`` for what reads and writes,
    and the whole server for OF_THE_SERVER. The only time that the key itself is seen. ServiceError ``invalid_parameter``,
    ``scope_missing``, NotFound ``project_not_found``.
    """
    project = _of_new_key(project, scope, by)
    with db.write() as session:
        if project is not None:
            _project(AccessRepository(session), project)
        return _add(session, project, scope, name, None if days is None else days * 86400.0)


def _of_new_key(project: str | None, scope: Scope, by: Caller) -> str | None:
    if by.project is not None:
        _own(project or by.project, by)
        if scope == "metrics":
            raise _of_all("figures are of all projects: such a key")
        return by.project
    if scope == "metrics" and project is not None:
        raise invalid_parameter("project", "a key for figures is of the whole server: name no project")
    return project if project is not None or scope in OF_THE_SERVER else DEFAULT_PROJECT


def _own(project: str, by: Caller) -> None:
    """Raises NotFound for a project of others, whether there is one or not."""
    if by.project not in (None, project):
        raise NotFound("project_not_found", f"there is no project {project!r}")


def _of_all(what: str) -> ServiceError:
    return ServiceError(403, "scope_missing", f"{what} needs an admin key of the whole server, made without a project")


def open_session(db: Database, caller: Caller) -> str:
    """What a browser that was let in sends from now on. It may read, whatever its key may do: pages change nothing.

    ServiceError ``scope_missing`` for a key that may not read.
    """
    if not caller.may("read"):
        raise ServiceError(403, "scope_missing", f"a key with the scope {caller.scope} opens no pages")
    with db.write() as session:
        AccessRepository(session).drop_old_sessions()
        made = _add(session, caller.project, "read", "browser", SESSION_S, "session", caller.key_id)
    return made.key


def _add(
    session: Session, project: str | None, scope: Scope, name: str | None, for_s: float | None,
    kind: Literal["key", "session"] = "key", parent_id: str | None = None,
) -> NewKeyView:  # fmt: skip
    repository, key = AccessRepository(session), new_secret()
    _, key_id, secret = key.split("_", 2)
    now = repository.now()
    row = AccessKey(
        id=key_id, project_id=project, parent_id=parent_id, kind=kind, name=name, scope=scope, digest=digest(secret),
        hint=secret[-4:], created_at=now, expires_at=None if for_s is None else now + for_s,
    )  # fmt: skip
    repository.add_key(row)
    return NewKeyView(**_key_fields(row, now), key=key)


def list_keys(db: Database, by: Caller = OWNER) -> list[KeyView]:
    """Keys and browsers, oldest first; none of them whole."""
    with db.of(by.project).read() as session:
        repository = AccessRepository(session)
        now = repository.now()
        return [KeyView(**_key_fields(row, now)) for row in repository.all_keys()]


def _key_fields(row: AccessKey, now: float) -> dict[str, Any]:
    expired = row.expires_at is not None and row.expires_at <= now
    return {
        "id": row.id, "shown": f"wo_{row.id}_…{row.hint}", "project": row.project_id, "kind": row.kind, "name": row.name,
        "scope": row.scope, "created_at": row.created_at, "expires_at": row.expires_at,
        "state": "revoked" if row.revoked_at is not None else "expired" if expired else "valid",
    }  # fmt: skip


def revoke_key(db: Database, key_id: str, by: Caller = OWNER) -> None:
    """From now on the key, and every browser that it let in, opens nothing. NotFound ``key_not_found``."""
    with db.of(by.project).write() as session:
        if not AccessRepository(session).revoke(key_id):
            raise NotFound("key_not_found", f"there is no key {key_id!r}")


def list_projects(db: Database, by: Caller = OWNER) -> list[ProjectView]:
    """Projects by name, with what they use and may use."""
    with db.read() as session:
        repository = AccessRepository(session)
        return [_project_view(repository, row) for row in repository.projects() if by.project in (None, row.id)]


class Quotas(TypedDict, total=False):
    """What a project may use at most; None: as much as it likes."""

    max_studies: int | None
    max_device_s: int | None
    max_stored_bytes: int | None


def set_quota(db: Database, project: str, by: Caller = OWNER, **quotas: Unpack[Quotas]) -> ProjectView:
    """Give a project, which is made where there is none, these quotas; others that it has stay. ServiceError
    ``invalid_parameter``, ``scope_missing``, NotFound ``project_not_found``.
    """
    _own(project, by)
    if by.project is not None:
        raise _of_all("a quota")
    with db.write() as session:
        repository = AccessRepository(session)
        row = _project(repository, project)
        for name, most in quotas.items():
            setattr(row, name, most)
        session.flush()
        return _project_view(repository, row)


def _project(repository: AccessRepository, project: str) -> Project:
    if not re.fullmatch(PROJECT_NAME, project):
        raise invalid_parameter("project", "the name of a project has at most 36 of a-z, 0-9 and -")
    return repository.project(project)


def _project_view(repository: AccessRepository, row: Project) -> ProjectView:
    return ProjectView(
        name=row.id, studies=repository.open_studies(row.id), max_studies=row.max_studies,
        device_s=repository.device_s(row), max_device_s=row.max_device_s,
        stored_bytes=repository.stored_bytes(row.id), max_stored_bytes=row.max_stored_bytes,
    )  # fmt: skip


def check_quota(session: Session, project_id: str, more: int = 1) -> None:
    """Refuse so many studies more of a project that has used up its quota. ServiceError ``quota_exceeded``."""
    repository = AccessRepository(session)
    project = repository.limits(project_id)
    if project is None:
        return
    studies = repository.open_studies(project_id)
    if project.max_studies is not None and studies + more > project.max_studies:
        raise _exceeded(f"{studies} of {project.max_studies} studies of the project {project_id} have not ended")
    used_up = _used_up(repository, project)
    if used_up is not None:
        raise _exceeded(used_up)


def device_used_up(session: Session, project_id: str) -> str | None:
    """A sentence where the project has no device seconds left: nothing of it is trained until it has more."""
    repository = AccessRepository(session)
    project = repository.limits(project_id, lock=False)
    return None if project is None else _used_up(repository, project)


def _used_up(repository: AccessRepository, project: Project) -> str | None:
    if project.max_device_s is None or (device_s := repository.device_s(project)) < project.max_device_s:
        return None
    return f"the project {project.id} used {device_s:,.0f} of {project.max_device_s:,} device seconds"


def check_stored(session: Session, project_id: str, size: int, lock: bool = True) -> None:
    """Refuse ``size`` bytes more of uploaded files than the quota of a project. ``lock``: until the transaction ends nobody
    else stores any. ServiceError ``quota_exceeded``.
    """
    repository = AccessRepository(session)
    project = repository.limits(project_id, lock)
    if project is None or project.max_stored_bytes is None:
        return
    stored = repository.stored_bytes(project_id)
    if stored + size > project.max_stored_bytes:
        most = f"{project.max_stored_bytes:,} bytes of files"
        raise _exceeded(f"the project {project_id} stores {stored:,} of {most}: {size:,} more are too many")


def _exceeded(detail: str) -> ServiceError:
    return ServiceError(429, "quota_exceeded", detail, retry_after_s=QUOTA_RETRY_S)
