"""The migration chain, found in the repository or inside the installed wheel."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.db.engine import make_migration_engine
from service.db.errors import SchemaMismatch

_HERE = Path(__file__).resolve().parent
# Any fixed number: one migrator at a time, freed by PostgreSQL when its connection ends.
_LOCK = 7215903


def scripts_folder() -> Path:
    """Where ``env.py`` lies: beside the code in a wheel, at the top of a checkout."""
    packaged = _HERE / "migrations"
    return packaged if packaged.is_dir() else _HERE.parents[1] / "migrations"


def head() -> str:
    """The newest revision that this code knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def current(url: str) -> str | None:
    """The revision of a database; None when it has no schema yet."""
    engine = make_migration_engine(url)
    try:
        with engine.execution_options(write=False).connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def check(url: str) -> None:
    """Raise SchemaMismatch unless the database is at ``head()``."""
    found, wanted = _known(url), head()
    if found != wanted:
        raise SchemaMismatch(
            f"the database schema is {found or 'empty'}, older than {wanted}: run `whichopt db upgrade`"
        )


def _known(url: str) -> str | None:
    """As ``current``. Raises SchemaMismatch for a revision that this code does not know."""
    found = current(url)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(
            f"the database schema {found} is newer than this program ({head()}): install a newer version"
        )
    return found


def upgrade(url: str, revision: str = "head") -> None:
    """Move up to ``revision`` in one transaction; does nothing when already there. Raises SchemaMismatch where it is newer."""
    if _known(url) == head() and revision == "head":
        return
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Move down to ``revision`` (``base`` removes every table and all data). Raises SchemaMismatch as ``upgrade``."""
    _known(url)
    _run(url, lambda config: command.downgrade(config, revision))


def _run(url: str, step) -> None:
    engine = make_migration_engine(url)
    try:
        with engine.begin() as connection:
            _lock(connection)
            step(_config(connection))
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    # SQLite: BEGIN IMMEDIATE is the lock. PostgreSQL: wait for the other migrator for as long as it needs.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
