"""PostgreSQL connections that die: never a wrong answer, and the next call works again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.db import Database, DatabaseUnavailable
from service.operations import queue, studies
from service.settings import Settings
from tests.db.support import claim, make_result, make_spec, make_unit, study_with_units

KILL_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def pair(database: Database) -> Iterator[tuple[Database, Database]]:
    """Two handles to one database."""
    other = Database(database.url)
    yield database, other
    other.dispose()


def test_a_connection_that_died_while_idle_is_replaced_unseen(pair: tuple[Database, Database]) -> None:
    database, killer = pair
    made = studies.create_study(database, make_spec())
    if database.dialect == "postgresql":
        with killer.read() as session:
            session.execute(KILL_OTHERS)
    assert studies.get_study(database, made.id) == made


def write_and_be_cut(database: Database, killer: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE unit SET state = 'done'"))
        if database.dialect == "postgresql":
            with killer.read() as other:
                other.execute(KILL_OTHERS)
            session.execute(text("SELECT 1"))
        raise InterruptedError


def test_a_transaction_that_is_cut_leaves_nothing_and_says_try_again(pair: tuple[Database, Database]) -> None:
    database, killer = pair
    study_id = study_with_units(database, [make_unit("u", [0])])
    got = claim(database)
    postgres = database.dialect == "postgresql"
    with pytest.raises(DatabaseUnavailable if postgres else InterruptedError) as caught:
        write_and_be_cut(database, killer)
    assert getattr(caught.value, "code", "database_unavailable") == "database_unavailable"
    assert queue.heartbeat(database, got.unit_id, got.token, 60) == "ok"
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    assert studies.get_study(database, study_id).progress.trials_done == 1


def test_a_copied_sqlite_file_is_a_whole_database(tmp_path: Path, sqlite_template: Path) -> None:
    handle = Database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'a folder with spaces.db')}")
    made = studies.create_study(handle, make_spec())
    with handle.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    assert studies.get_study(handle, made.id) == made
    handle.dispose()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHICHOPT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WHICHOPT_DATA_ROOTS", f"{tmp_path}:/srv/data")
    monkeypatch.setenv("WHICHOPT_LEASE_S", "3")
    settings = Settings()
    assert settings.url == f"sqlite:///{tmp_path / 'whichopt.db'}"
    assert settings.data_roots == [tmp_path, Path("/srv/data")]
    assert (settings.lease_s, settings.heartbeat_s, settings.broker_url) == (3.0, 15.0, None)
    assert Settings(database_url="postgresql://h/x").url == "postgresql://h/x"
