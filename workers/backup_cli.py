"""``whichopt db backup``, ``restore`` and ``verify``: database and uploaded files as a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import STUDY_FAILED, CommandError, say
from service.operations.artifact_folder import ArtifactFolder
from service.settings import Settings

if TYPE_CHECKING:
    from service.db.backup import Verified

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.")]


def add_backup(app: typer.Typer, read_settings: Callable[[], Settings]) -> None:
    """Add the commands to ``app``."""

    @app.command()
    def backup(folder: Folder) -> None:
        """Write the database and all uploaded files into a new folder, while everything runs on."""
        from service.db.backup import backup as run

        settings = read_settings()
        with _told():
            done = run(settings.url, ArtifactFolder(settings.artifacts).open, folder)
        say(
            f"{done.rows:,} rows and {done.files:,} files are in {folder}; whichopt db verify {folder} restores them once"
        )
        _tell_lost(done)

    @app.command()
    def restore(folder: Folder) -> None:
        """Put a backup into an empty database (WHICHOPT_DATABASE_URL), and its files into their folder."""
        from service.db.backup import restore as run

        settings = read_settings()
        with _told():
            done = run(folder, settings.url, ArtifactFolder(settings.artifacts).path)
        say(
            f"{done.rows:,} rows and {done.files:,} files are restored; whichopt db upgrade brings the schema to this version"
        )
        if done.held:
            say(
                f"{done.held:,} deliveries to webhooks that waited are held and not sent: the original may have sent them"
            )
        _tell_lost(done)

    @app.command()
    def verify(folder: Folder) -> None:
        """Restore a backup to a scratch place, count its rows and hash its files."""
        from service.db.backup import verify as run

        with _told():
            done = run(folder, read_settings().url)
        say(f"{folder} is as it was written: {done.rows:,} rows and {done.files:,} files")
        _tell_lost(done)


def _tell_lost(done: Verified) -> None:
    if done.lost:
        names = ", ".join(done.lost[:3])
        raise CommandError(
            f"{len(done.lost):,} uploaded files are not in the backup, all else is: {names}; upload them again, or delete "
            "what nobody needs (DELETE /v1/artifacts/ID)",
            STUDY_FAILED,
        )


@contextmanager
def _told() -> Iterator[None]:
    from service.db.backup import BackupError

    try:
        yield
    except BackupError as error:
        raise CommandError(str(error), STUDY_FAILED) from None
