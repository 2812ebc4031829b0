"""Backups taken while others write restore elsewhere, and are found out when they are damaged; on both databases."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.db import Database
from service.db.backup import BackupError, backup, restore, verify
from service.db.models import Event, StoredArtifact, Study
from service.operations import delivering, queue, studies, webhooks
from service.operations.artifact_folder import ArtifactFolder, Damaged
from tests.conftest import postgres_database
from tests.db.support import claim, make_result, make_spec, make_unit, study_with_units


@pytest.fixture
def elsewhere(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of the same kind."""
    if database.dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'restored.db'}"
        return
    with postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield url


def with_file(database: Database, folder: ArtifactFolder, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    received = folder.coming()
    received.write_bytes(content)
    folder.keep(received, sha256, "csv")
    row = StoredArtifact(
        id=sha256[:32],
        sha256=sha256,
        format="csv",
        name="t.csv",
        content="",
        size=len(content),
        created_at=1.0,
        used_at=1.0,
    )
    with database.write() as session:
        session.add(row)
    return folder.path(sha256, "csv")


def count(database: Database, table: type) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_backup_taken_under_load_restores_elsewhere(database: Database, elsewhere: str, tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    file = with_file(database, folder, b"x,y\n1,2\n")
    study = study_with_units(database, [make_unit("a", [0, 1])])
    got = claim(database)
    queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    over, begun = threading.Event(), threading.Event()

    def write() -> None:
        while not over.is_set():
            studies.create_study(database, make_spec())
            begun.set()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    begun.wait(30)
    try:
        made = backup(database.url, folder.open, tmp_path / "backup")
        found = verify(tmp_path / "backup", database.url)
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert made == found
    assert made.files == 1
    written = [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]
    assert len(written) == 5
    assert [one for one in written if one.stat().st_mode & 0o077] == []
    restored = ArtifactFolder(tmp_path / "elsewhere" / "artifacts")
    assert restore(tmp_path / "backup", elsewhere, restored.path) == made
    copy = Database(elsewhere)
    copy.check_schema()
    # As of one moment: every study that was acknowledged then, each with its event.
    assert 1 < count(copy, Study) <= count(database, Study)
    assert studies.list_trials(copy, study) == studies.list_trials(database, study)
    assert count(copy, Event) >= count(copy, Study)
    assert restored.path(file.parent.name, "csv").read_bytes() == file.read_bytes()
    studies.create_study(copy, make_spec())
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "backup", elsewhere, restored.path)
    copy.dispose()


def test_what_webhooks_were_still_to_be_told_is_not_told_by_a_copy(
    database: Database, elsewhere: str, tmp_path: Path
) -> None:
    origin = ["https://hooks.example.org"]
    webhooks.create(database, f"{origin[0]}/", origin)
    studies.cancel_study(database, studies.create_study(database, make_spec()).id)
    backup(database.url, ArtifactFolder(tmp_path / "artifacts").open, tmp_path / "backup")
    done = restore(tmp_path / "backup", elsewhere, ArtifactFolder(tmp_path / "elsewhere" / "artifacts").path)
    assert done.held == 1
    copy = Database(elsewhere)
    assert delivering.deliver_due(copy, origin) == 0
    [hook] = webhooks.list_all(copy)
    assert (hook.waiting, hook.last_error) == (0, "restored from a backup")
    # Those of new studies are; and the original still tells its own.
    studies.cancel_study(copy, studies.create_study(copy, make_spec()).id)
    assert webhooks.list_all(copy)[0].waiting == webhooks.list_all(database)[0].waiting == 1
    copy.dispose()


def test_what_was_damaged_does_not_pass(database: Database, tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    with_file(database, folder, b"x,y\n1,2\n")
    whole = tmp_path / "whole"
    backup(database.url, folder.open, whole)
    assert verify(whole, database.url).files == 1
    with pytest.raises(BackupError, match="exists already"):
        backup(database.url, folder.open, whole)
    for damaged in ("artifacts", "database", "manifest"):
        copy = tmp_path / f"damaged-{damaged}"
        shutil.copytree(whole, copy)
        [one] = [path for path in copy.rglob("*") if path.is_file() and damaged in str(path.relative_to(copy))]
        one.write_bytes(one.read_bytes()[:-1] + b"?")
        with pytest.raises(BackupError):
            verify(copy, database.url)
    with pytest.raises(BackupError, match="no backup"):
        verify(tmp_path / "nothing", database.url)
    for empty in ('{"format": 1}', '{"format": 1, "dialect": "sqlite", "rows": [], "artifacts": {}, "gone": []}'):
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "empty" / "manifest.json").write_text(empty)
        with pytest.raises(BackupError, match="no backup"):
            verify(tmp_path / "empty", database.url)


def flipped(file: Path, secret: Path) -> None:
    file.write_bytes(b"x,y\n9,2\n")


def vanished(file: Path, secret: Path) -> None:
    file.unlink()


def linked(file: Path, secret: Path) -> None:
    file.unlink()
    file.symlink_to(secret)


def folder_linked(file: Path, secret: Path) -> None:
    shutil.rmtree(file.parent)
    (secret.parent / file.name).write_bytes(secret.read_bytes())
    file.parent.symlink_to(secret.parent)


def a_pipe(file: Path, secret: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("harm", [flipped, vanished, linked, folder_linked, a_pipe])
def test_a_harmed_upload_keeps_nothing_else_from_being_saved(
    database: Database, elsewhere: str, tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    folder = ArtifactFolder(tmp_path / "artifacts")
    file, other = with_file(database, folder, b"x,y\n1,2\n"), with_file(database, folder, b"x,y\n3,4\n")
    folder.open(file.parent.name, "csv").close()
    secret = tmp_path / "secrets" / "secret"
    secret.parent.mkdir()
    secret.write_text("nobody may read this")
    harm(file, secret)
    with pytest.raises(OSError, match=r".") as met:
        folder.open(file.parent.name, "csv")
    assert isinstance(met.value, FileNotFoundError if harm is vanished else Damaged)
    made = backup(database.url, folder.open, tmp_path / "backup")
    assert made.files == 1
    [lost] = made.lost
    assert lost.startswith(file.parent.name[:32])
    assert ("vanished" in lost) == (harm is vanished)
    assert verify(tmp_path / "backup", database.url) == made
    restored = ArtifactFolder(tmp_path / "elsewhere" / "artifacts")
    assert restore(tmp_path / "backup", elsewhere, restored.path).lost == made.lost
    with restored.open(other.parent.name, "csv") as whole:
        assert whole.read() == b"x,y\n3,4\n"
    assert not [f for f in tmp_path.rglob("backup/**/*") if f.is_file() and f.read_bytes() == secret.read_bytes()]
    # Where none of several lies the backup is made in the wrong place.
    other.unlink()
    with pytest.raises(BackupError, match="of 2 uploaded files none can be read"):
        backup(database.url, folder.open, tmp_path / "third")
    assert not [path for path in tmp_path.iterdir() if "third" in path.name]
