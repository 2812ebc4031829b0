"""Use cases of uploaded files: store, look, remove, put into their place for who reads them; and what the sweep removes."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sqlalchemy.orm import Session

from optim_core.spec.errors import DataError
from optim_core.spec.placed import FILE_NAMES, artifact_ids, placed
from optim_core.spec.problem import StudySpec
from service.db import Database
from service.db.models import StoredArtifact
from service.db.repositories import ArtifactRepository, StudyRepository
from service.operations import apart, cursors, inspection
from service.operations.access import check_stored
from service.operations.artifact_folder import ArtifactFolder, Damaged
from service.operations.errors import Conflict, NotFound, ServiceError
from service.operations.upload_format import format_of
from service.operations.views import ArtifactView, Page

log = logging.getLogger("whichopt.artifacts")

MOST_NAME = 255
# Rows that one sweep removes, and how often it looks: the folder is listed for it.
BATCH, EVERY_S = 500, 3600.0


# From a path, a label and a format to what was found there, in a few words.
Look = Callable[[Path, str, str], str]


@dataclass(frozen=True)
class Received:
    """An upload on disk. ``declared``: the format that was asked for, if any."""

    path: Path
    sha256: str
    size: int
    name: str
    declared: str | None = None


def store(db: Database, folder: ArtifactFolder, received: Received, look: Look) -> tuple[ArtifactView, bool]:
    """Check what was received and keep it; its row, and whether that is new: the same bytes in one format are one artifact,
    which nobody looks into again.

    Takes the file. ``look``: as ``apart.look_into``. Raises DataError for what it is not, as the readers do, and
    ServiceError ``quota_exceeded``.
    """
    label = label_of(received.name)
    with received.path.open("rb") as file:
        fmt = format_of(label, received.declared, file.read(1 << 16))
    with db.read() as session:
        known = ArtifactRepository(session).known(received.sha256, fmt)
        if known is None:
            check_stored(session, db.project_id, received.size, lock=False)
    try:
        content = look(received.path, label, fmt) if known is None else known.content
    except DataError as error:
        error.pointer = ""  # the whole body is meant
        raise
    with db.write() as session:
        artifacts, now = ArtifactRepository(session), StudyRepository(session).now()
        if known is None:
            # Others may have come meanwhile; from here on they wait.
            check_stored(session, db.project_id, received.size)
        artifacts.lock(received.sha256)
        folder.keep(received.path, received.sha256, fmt)
        known = artifacts.known(received.sha256, fmt)
        if known is not None:
            # It is called as it was called last: studies keep the name under which they were asked.
            known.used_at, known.name = now, label
            return _view(known), False
        artifact = StoredArtifact(
            id=f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}", sha256=received.sha256, format=fmt, name=label,
            content=content, size=received.size, created_at=now, used_at=now,
        )  # fmt: skip
        artifacts.add(artifact)
        return _view(artifact), True


def label_of(name: str) -> str:
    """A file's name as a label: without folders and without what does not print."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(sign for sign in last if sign.isprintable()).strip()[-MOST_NAME:] or "file"


def get(db: Database, artifact_id: str) -> ArtifactView:
    """One artifact. NotFound ``artifact_not_found``."""
    with db.read() as session:
        return _view(_found(session, artifact_id))


def page(db: Database, sha256: str | None, cursor: str | None, limit: int) -> Page[ArtifactView]:
    """Artifacts, newest first; with ``sha256`` those with these bytes."""
    limit = cursors.check_limit(limit)
    after = None if cursor is None else tuple(cursors.decode(cursor, "artifacts", float, str))
    with db.read() as session:
        rows = list(ArtifactRepository(session).page(sha256, after, limit + 1))  # type: ignore[arg-type]
    more = cursors.encode("artifacts", rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return Page(items=[_view(row) for row in rows[:limit]], next_cursor=more)


def delete(db: Database, artifact_id: str) -> None:
    """Forget an artifact; its bytes go with the next sweep. Conflict ``artifact_in_use`` while a study names it."""
    with db.write() as session:
        artifacts, row = ArtifactRepository(session), _found(session, artifact_id)
        if artifacts.is_named(artifact_id):
            raise Conflict("artifact_in_use", "a study names this artifact; delete the study first")
        artifacts.delete(row)


def name_in_study(session: Session, study_id: str, spec: StudySpec, now: float) -> str | None:
    """Note which artifacts a new study uses; the label of its data set, if that is one. ServiceError ``artifact_not_found``."""
    named = artifact_ids(spec)
    if not named:
        return None
    rows = _rows(session, named)
    ArtifactRepository(session).name_in(study_id, named.values(), now)
    return rows[named["/dataset"]].name if "/dataset" in named else None


def spec_here(
    db: Database, folder: ArtifactFolder, spec: StudySpec, roots: Sequence[str] | None
) -> tuple[StudySpec, list[str] | None]:
    """``spec`` with its artifacts as files of this machine, and ``roots`` with their folders, for who reads them.

    ServiceError ``artifact_not_found``; DataError ``artifact_elsewhere`` where the file does not lie in this machine's folder,
    ``artifact_corrupt`` where what lies there is not what was uploaded.
    """
    named = artifact_ids(spec)
    if not named:
        return spec, None if roots is None else list(roots)
    with db.read() as session:
        rows = _rows(session, named)
    paths = {key: folder.path(row.sha256, row.format) for key, row in rows.items()}
    for pointer, key in named.items():
        if (rows[key].format == "weights") != pointer.endswith("/weights"):
            what = "weights" if pointer.endswith("/weights") else "data"
            raise DataError(f"{rows[key].name} is no file of {what}", code="unsupported_format", pointer=pointer)
        _check_there(folder, rows[key], pointer)
    FILE_NAMES.set({os.path.realpath(path): rows[key].name for key, path in paths.items()})
    own = sorted({str(path.parent) for path in paths.values()})
    return placed(spec, lambda key: str(paths[key])), None if roots is None else [*roots, *own]


def _check_there(folder: ArtifactFolder, row: StoredArtifact, pointer: str) -> None:
    try:
        folder.open(row.sha256, row.format).close()
    except Damaged as error:
        log.error("the uploaded file %s is damaged: %s", row.id, error)
        message = f"{row.name} is no longer what was uploaded; upload it again"
        raise DataError(message, code="artifact_corrupt", pointer=pointer) from None
    except OSError as error:
        log.error("the uploaded file %s cannot be read in %s, which all machines share: %s", row.id, folder.root, error)
        message = f"{row.name} was uploaded, and does not lie where it should be read; upload it again"
        raise DataError(message, code="artifact_elsewhere", pointer=pointer) from None


def inspect_here(
    db: Database, folder: ArtifactFolder, spec: StudySpec, roots: Sequence[str] | None
) -> inspection.Inspection:
    """See ``inspection.inspect``; uploaded files are read in a process of their own. Raises what ``spec_here`` does, too."""
    own, within = spec_here(db, folder, spec, roots)
    return (inspection.inspect if own is spec else apart.inspect)(own, within)


def collect(db: Database, folder: ArtifactFolder, unused_s: float) -> int:
    """Remove artifacts that no study names and nobody used for ``unused_s`` seconds, and files without a row; how many files.

    Rows first: a file without a row is found the next time, a row without its file would be a loss.
    """
    with db.write() as session:
        now = StudyRepository(session).now()
        ArtifactRepository(session).touch_named(now)
        ArtifactRepository(session).delete_unused(now - unused_s, BATCH)
    folder.forget_abandoned()
    removed = 0
    for sha256, fmt in folder.settled():
        with db.write() as session:
            artifacts = ArtifactRepository(session)
            artifacts.lock(sha256)
            if artifacts.known(sha256, fmt) is None:
                folder.discard(sha256, fmt)
                removed += 1
    return removed


def _rows(session: Session, named: dict[str, str]) -> dict[str, StoredArtifact]:
    rows = {row.id: row for row in ArtifactRepository(session).some(named.values())}
    for pointer, key in named.items():
        if key not in rows:
            place = "/dataset/id" if pointer == "/dataset" else f"{pointer}/id"
            error = {"pointer": place, "code": "artifact_not_found", "detail": f"there is no artifact {key!r}"}
            raise ServiceError(422, "artifact_not_found", error["detail"], [error])
    return rows


def _found(session: Session, artifact_id: str) -> StoredArtifact:
    row = ArtifactRepository(session).get(artifact_id)
    if row is None:
        raise NotFound("artifact_not_found", f"there is no artifact {artifact_id!r}")
    return row


def _view(row: StoredArtifact) -> ArtifactView:
    return ArtifactView(**{name: getattr(row, name) for name in ArtifactView.model_fields})
