"""Backups: the database as it was at one moment, and the uploaded files that it names, in a folder of their own.

Rows first, then files: files are only added while a row names them, so what is copied later holds all that the rows name, but
for what was deleted meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import URL, Connection, MetaData, func, inspect, select, text

from service import private
from service.db import migrate
from service.db.engine import make_migration_engine, parse_url

MANIFEST, SQLITE, DUMP, FILES = "manifest.json", "database.sqlite", "database.dump", "artifacts"
FORMAT = 1
# Of the place of the backup, not of a file that is read.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class BackupError(Exception):
    """A backup cannot be made, is not whole, or cannot be restored there; the message says why."""


@dataclass(frozen=True)
class Verified:
    """``rows`` of all tables and ``files`` that were compared; ``held``: deliveries that waited and are not sent; ``lost``:
    artifacts whose files had vanished or were not what was uploaded when the backup was made, each with its id.
    """

    rows: int
    files: int
    held: int = 0
    lost: tuple[str, ...] = ()


# (sha256, format) → where the file of an artifact lies; and the file itself, if it is what was uploaded, else OSError.
PathOf = Callable[[str, str], Path]
Open = Callable[[str, str], BinaryIO]
# What a manifest says.
_KEYS = {"dialect": str, "sha256": str, "revision": str, "rows": dict, "artifacts": dict, "lost": list}


def backup(url: str, open_file: Open, folder: Path) -> Verified:
    """Write a backup into ``folder``, which must not exist. Nobody has to stop meanwhile. Raises BackupError. A file that has
    vanished or is damaged keeps nothing else from being backed up.
    """
    if folder.exists():
        raise BackupError(f"{folder} exists already; a backup is a folder of its own")
    parsed = parse_url(url)
    private.folder(folder.parent)
    coming = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    coming.mkdir(mode=0o700)
    try:
        manifest = (_backup_sqlite if parsed.get_backend_name() == "sqlite" else _backup_postgres)(parsed, coming)
        named = manifest.pop("named")
        manifest["artifacts"], manifest["lost"] = _copy_files(url, open_file, named, coming / FILES)
        (coming / MANIFEST).write_text(json.dumps({"format": FORMAT, **manifest}, indent=1))
        for file in (*coming.rglob("*"), coming):
            private.tighten(file)  # as pg_dump and SQLite make them the umask decides; nobody else could enter so far
            _flush(file)
        os.rename(coming, folder)
    except BaseException:
        shutil.rmtree(coming, ignore_errors=True)
        raise
    return _verified(manifest)


def restore(folder: Path, url: str, path_of: PathOf) -> Verified:
    """Put a backup into an empty database and its files into their places; what webhooks were still to be told is held. Raises
    BackupError for one that is not whole, and for a database that holds anything.
    """
    manifest = _manifest(folder)
    parsed = parse_url(url)
    if (parsed.get_backend_name() == "sqlite") != (manifest["dialect"] == "sqlite"):
        raise BackupError(f"this is a backup of {manifest['dialect']}; restore it into one")
    engine = make_migration_engine(url)
    try:
        with engine.execution_options(write=False).connect() as connection:
            if inspect(connection).get_table_names():
                raise BackupError("the database is not empty; restore into a new one")
    finally:
        engine.dispose()
    _check_files(folder, manifest)
    _load(folder, manifest, parsed)
    _check_rows(url, manifest)
    held = _hold(url)
    for name in manifest["artifacts"]:
        source = folder / FILES / name
        sha256, _, rest = name.partition(".")
        place = path_of(sha256, rest)
        private.folder(place.parent)
        coming = place.with_name(f".{secrets.token_hex(8)}")
        with source.open("rb") as content, open(coming, "wb", opener=private.opener) as out:
            shutil.copyfileobj(content, out)
        os.replace(coming, place)
        _flush(place)
    return _verified(manifest, held)


def _hold(url: str) -> int:
    """Keep what waits for webhooks from being told once more: where the backup was made it has been told since. How many."""
    engine = make_migration_engine(url)
    hold = (
        "UPDATE delivery SET state = 'held', ended_at = :now, error = 'restored from a backup' WHERE state = 'waiting'"
    )
    try:
        with engine.begin() as connection:
            there = inspect(connection).has_table("delivery")
            return connection.execute(text(hold), {"now": time.time()}).rowcount if there else 0
    finally:
        engine.dispose()


def verify(folder: Path, scratch_url: str | None = None) -> Verified:
    """Restore to a scratch place, count every table, hash every file. Raises BackupError naming what is wrong.

    ``scratch_url``: a PostgreSQL server that may make a database for it; needed for a backup of one.
    """
    manifest = _manifest(folder)
    _check_files(folder, manifest)
    with _scratch(manifest, scratch_url) as url:
        _load(folder, manifest, parse_url(url))
        _check_rows(url, manifest)
        if migrate.current(url) != manifest["revision"]:
            raise BackupError("its schema is not the one that the manifest names")
    return _verified(manifest)


def _verified(manifest: dict[str, Any], held: int = 0) -> Verified:
    return Verified(sum(manifest["rows"].values()), len(manifest["artifacts"]), held, tuple(manifest["lost"]))


def _backup_sqlite(url: URL, folder: Path) -> dict[str, Any]:
    if not Path(str(url.database)).is_file():
        raise BackupError(f"there is no database {url.database}")
    with (
        closing(sqlite3.connect(str(url.database), timeout=30)) as source,
        closing(sqlite3.connect(folder / SQLITE)) as target,
    ):
        # In one step, as of one moment: with pauses a writer would make it begin anew.
        source.backup(target)
    seen = _seen(f"sqlite:///{folder / SQLITE}")
    with closing(sqlite3.connect(folder / SQLITE)) as target:
        # One file, whoever looks at it.
        target.execute("PRAGMA journal_mode = DELETE")
    return {"dialect": "sqlite", "sha256": _hash(folder / SQLITE), **seen}


def _backup_postgres(url: URL, folder: Path) -> dict[str, Any]:
    engine = make_migration_engine(url.render_as_string(hide_password=False))
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            # Counts and dump see the same moment.
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            seen = _seen_by(connection)
            _tool(url, "pg_dump", f"--snapshot={snapshot}", "--format=custom", f"--file={folder / DUMP}")
    finally:
        engine.dispose()
    return {"dialect": "postgresql", "sha256": _hash(folder / DUMP), **seen}


def _seen(url: str) -> dict[str, Any]:
    engine = make_migration_engine(url)
    try:
        with engine.execution_options(write=False).connect() as connection:
            return _seen_by(connection)
    finally:
        engine.dispose()


def _seen_by(connection: Connection) -> dict[str, Any]:
    """Revision, rows of each table, and the artifacts that rows name."""
    tables = MetaData()
    tables.reflect(connection)
    if "alembic_version" not in tables.tables:
        raise BackupError("the database has no schema; there is nothing to back up")
    counts = {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for name, table in sorted(tables.tables.items())
    }
    artifact = tables.tables["artifact"]
    # The same bytes may be several projects'.
    columns = (artifact.c.sha256, artifact.c.format, func.min(artifact.c.id))
    named = connection.execute(select(*columns).group_by(artifact.c.sha256, artifact.c.format)).all()
    revision = connection.execute(select(tables.tables["alembic_version"].c.version_num)).scalar_one()
    return {"revision": revision, "rows": counts, "named": sorted(tuple(one) for one in named)}


def _copy_files(
    url: str, open_file: Open, named: list[tuple[str, str, str]], folder: Path
) -> tuple[dict[str, int], list[str]]:
    """(name in the backup → bytes, what is not there or damaged and still named by rows, in words). Raises BackupError where
    none of several is there: then this is not the machine where they lie.
    """
    folder.mkdir()
    copied: dict[str, int] = {}
    missing: dict[tuple[str, str, str], str] = {}
    for sha256, fmt, artifact in named:
        name = f"{sha256}.{fmt}"
        try:
            with open_file(sha256, fmt) as source, open(folder / name, "xb") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise BackupError(f"{folder} takes no more: {error.strerror}") from None
            missing[sha256, fmt, artifact] = (
                "has vanished" if isinstance(error, FileNotFoundError) else str(error.strerror or "is damaged")
            )
            continue
        copied[name] = (folder / name).stat().st_size
    still = {tuple(one) for one in _seen(url)["named"]} if missing else set()
    lost = [f"{one[2]} ({why})" for one, why in missing.items() if one in still]
    if len(lost) > 1 and not copied:
        raise BackupError(
            f"of {len(lost)} uploaded files none can be read: back up where they lie; the first is {lost[0]}"
        )
    return copied, lost


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise BackupError(f"{folder} is no backup, or not a whole one") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BackupError(f"{folder} was made by another version")
    # Those of before named what had vanished otherwise.
    manifest.setdefault("lost", manifest.get("gone"))
    if not all(isinstance(manifest.get(key), kind) for key, kind in _KEYS.items()):
        raise BackupError(f"{folder} is no backup, or not a whole one")
    return manifest


def _check_files(folder: Path, manifest: dict[str, Any]) -> None:
    database = folder / (SQLITE if manifest["dialect"] == "sqlite" else DUMP)
    if not database.is_file() or _hash(database) != manifest["sha256"]:
        raise BackupError(f"{database.name} is not what was written")
    for name, size in manifest["artifacts"].items():
        file = folder / FILES / Path(name).name
        if not file.is_file() or file.stat().st_size != size or _hash(file) != name.partition(".")[0]:
            raise BackupError(f"the file {name} is not what was written")


def _load(folder: Path, manifest: dict[str, Any], url: URL) -> None:
    if manifest["dialect"] == "sqlite":
        with (
            closing(sqlite3.connect(f"file:{folder / SQLITE}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(str(url.database))) as target,
        ):
            source.backup(target)
            if [tuple(row) for row in target.execute("PRAGMA integrity_check")] != [("ok",)]:
                raise BackupError("the database is damaged")
        return
    _tool(url, "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", folder / DUMP)


def _check_rows(url: str, manifest: dict[str, Any]) -> None:
    found = _seen(url)["rows"]
    for table, count in manifest["rows"].items():
        if found.get(table) != count:
            raise BackupError(f"{table} has {found.get(table)} rows; {count} were backed up")


@contextmanager
def _scratch(manifest: dict[str, Any], server: str | None) -> Iterator[str]:
    if manifest["dialect"] == "sqlite":
        with tempfile.TemporaryDirectory(prefix="whichopt-") as place:
            yield f"sqlite:///{place}/scratch.db"
        return
    if server is None or parse_url(server).get_backend_name() == "sqlite":
        raise BackupError("this is a backup of PostgreSQL; name a server where it may be restored for a moment")
    parsed, name = parse_url(server), f"whichopt_verify_{secrets.token_hex(8)}"
    engine = make_migration_engine(server)
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    try:
        with alone.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        try:
            yield parsed.set(database=name).render_as_string(hide_password=False)
        finally:
            with alone.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()


def _tool(url: URL, program: str, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's own programs. The password goes by the environment, which other accounts cannot read."""
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"{program} is not installed; it comes with PostgreSQL's client programs")
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    password = {} if url.password is None else {"PGPASSWORD": str(url.password)}
    done = subprocess.run(  # noqa: S603 - a program of PostgreSQL's and the operator's own address
        [found, f"--dbname={plain}", *map(str, arguments)],
        env={**os.environ, **password}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BackupError(f"{program}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
