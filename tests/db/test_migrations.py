"""The chain of migrations goes up and down on both databases, keeps what is stored, and ends at the models."""

from __future__ import annotations

import multiprocessing
import struct
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, insert, inspect, select

from service.db import Database, SchemaMismatch, migrate
from service.db.engine import make_migration_engine, parse_url
from service.db.models import Base
from service.operations import access, studies
from tests.db.support import make_spec

# Rows as version 0001 wrote them, frozen: a later migration has to keep them.
FROZEN: dict[str, dict[str, Any]] = {
    "study": {
        "id": "a" * 32, "name": "frozen", "state": "completed", "model": "mlp", "dataset": "digits",
        "spec": {"budget": {"trials": 4}}, "spec_hash": "b" * 64, "metric": "accuracy", "direction": "maximize",
        "stage": "done", "note": "said", "created_at": 1.5, "started_at": 2.5, "finished_at": 3.5, "trials_planned": 1,
        "trials_done": 1, "confirm_planned": 0, "confirm_done": 0, "train_steps": 2**40, "elapsed_s": 0.25,
        "device_s": 0.5, "best_objective": 0.125, "best_value": 0.875, "best_optimizer": "adamw", "verdict": "better",
        "winner": "lion", "error_code": None, "error_message": None, "plan_revision": 3, "result_seq": 2,
        "planned_seq": 2, "event_seq": 1,
    },
    "unit": {
        "id": 7, "study_id": "a" * 32, "key": "k", "kind": "train", "rung": 0, "horizon": 10, "state": "done",
        "spec": {"trials": []}, "result": {"seconds": 0.1}, "attempts": 1, "fence": 1, "worker_id": "w",
        "lease_until": None, "step": 10, "created_at": 1.0, "claimed_at": 2.0, "finished_at": 3.0, "error_code": None,
        "error_message": None,
    },
    "trial": {
        "study_id": "a" * 32, "number": 0, "optimizer": "adamw", "configuration": {"optimizer": "adamw"}, "seed": 2**31,
        "stage": "search", "origin": "tpe", "state": "completed", "rung": 0, "unit_id": 7, "objective": 0.125,
        "metric": 0.875, "loss": 0.5, "diverged_at_step": None, "steps": 10,
    },
    "measurement": {"unit_id": 7, "number": 0, "step": 10, "train_loss": 0.1, "loss": 1e-300, "value": 0.1 + 0.2},
    "checkpoint": {"unit_id": 7, "data": b"\x00\xff", "sha256": "c" * 64, "saved_at": 2.0},
    "event": {"study_id": "a" * 32, "id": 1, "type": "study.state", "data": {"state": "queued"}, "at": 1.5},
    "recommendation": {"study_id": "a" * 32, "document": {"verdict": "better"}, "created_at": 3.5},
    "idempotency_key": {"key": "K", "request_hash": "d" * 64, "study_id": "a" * 32, "created_at": 1.5},
    "worker": {"id": "w", "device": "cpu", "first_seen": 1.0, "last_seen": 2.0},
}  # fmt: skip

# What became of rows that a later version keeps otherwise.
NOW = {name: row for name, row in FROZEN.items() if name != "measurement"} | {
    "curve": {"unit_id": 7, "number": 0, "points": struct.pack("<q3d", 10, 0.1, 1e-300, 0.1 + 0.2)}
}
# Tables that version 0001 did not have.
LATER = {"project", "access_key", "artifact", "study_artifact", "webhook", "delivery", "device_use"}


def tables_of(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def stored(connection: Connection, name: str) -> list[dict[str, Any]]:
    table = Table(name, MetaData(), autoload_with=connection)
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def test_up_down_up_ends_at_the_models(empty_url: str) -> None:
    engine = make_migration_engine(empty_url)
    migrate.upgrade(empty_url)
    migrate.downgrade(empty_url, "base")
    with engine.connect() as connection:
        assert tables_of(connection) == set()
    migrate.upgrade(empty_url)
    with engine.connect() as connection:
        assert tables_of(connection) == set(Base.metadata.tables) == set(NOW) | LATER
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_every_step_keeps_the_rows_that_are_there(empty_url: str) -> None:
    migrate.upgrade(empty_url, "0001")
    engine = make_migration_engine(empty_url)
    with engine.begin() as connection:
        for name, row in FROZEN.items():
            connection.execute(insert(Table(name, MetaData(), autoload_with=connection)).values(row))
    revisions = [s.revision for s in ScriptDirectory(str(migrate.scripts_folder())).walk_revisions()][::-1]
    assert revisions[0] == "0001"
    for revision in [*revisions[1:], *revisions[-2::-1], "head"]:
        up = revision == "head" or revision > str(migrate.current(empty_url))
        (migrate.upgrade if up else migrate.downgrade)(empty_url, revision)
        if revision in ("0001", "head"):
            with engine.connect() as connection:
                for name, row in (NOW if up else FROZEN).items():
                    (found,) = stored(connection, name)
                    assert {key: found[key] for key in row} == row
    with engine.connect() as connection:
        assert {row["project_id"] for name in ("study", "idempotency_key") for row in stored(connection, name)} == {
            "default"
        }
    engine.dispose()


def test_going_back_to_a_schema_without_projects_shows_nobodys_studies_to_others(empty_url: str) -> None:
    handle = Database(empty_url)
    handle.migrate()
    access.set_quota(handle, "lab")
    mine = studies.create_study(handle, make_spec(), idempotency_key="k").id
    studies.create_study(handle.of("lab"), make_spec(), idempotency_key="k")
    handle.dispose()
    migrate.downgrade(empty_url, "0004")
    engine = make_migration_engine(empty_url)
    with engine.connect() as connection:
        assert [row["id"] for row in stored(connection, "study")] == [mine]
        assert [row["study_id"] for row in stored(connection, "idempotency_key")] == [mine]
    engine.dispose()


def test_admin_keys_of_a_project_never_rule_others_over_migrations(empty_url: str) -> None:
    migrate.upgrade(empty_url, "0008")
    engine = make_migration_engine(empty_url)
    row = {"kind": "key", "digest": "d" * 64, "hint": "wxyz", "created_at": 1.0}
    keys = {"a": ("default", "admin"), "b": ("default", "write"), "c": ("lab", "admin")}
    with engine.begin() as connection:
        table = Table("project", MetaData(), autoload_with=connection)
        connection.execute(insert(table).values(id="lab", created_at=1.0, deleted_device_s=0.0))
        table = Table("access_key", MetaData(), autoload_with=connection)
        for key, (project, scope) in keys.items():
            connection.execute(insert(table).values(id=key * 12, project_id=project, scope=scope, **row))
    migrate.upgrade(empty_url, "0009")
    with engine.begin() as connection:
        assert scopes(connection) == {"a": (None, "admin"), "b": ("default", "write"), "c": ("lab", "admin")}
        table = Table("access_key", MetaData(), autoload_with=connection)
        connection.execute(insert(table).values(id="m" * 12, project_id=None, scope="metrics", **row))
    migrate.downgrade(empty_url, "0008")
    with engine.connect() as connection:
        assert scopes(connection) == {**keys, "c": ("lab", "write")}
    engine.dispose()


def scopes(connection: Connection) -> dict[str, tuple[str | None, str]]:
    return {row["id"][0]: (row["project_id"], row["scope"]) for row in stored(connection, "access_key")}


def upgrade_in_process(url: str, errors: Any) -> None:
    try:
        migrate.upgrade(url)
    except Exception as error:
        errors.put(repr(error))


def test_several_migrators_at_once_take_turns(empty_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    processes = [context.Process(target=upgrade_in_process, args=(empty_url, errors)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert errors.empty(), errors.get()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert migrate.current(empty_url) == migrate.head()


def test_a_schema_that_does_not_fit_is_named(empty_url: str) -> None:
    handle = Database(empty_url)
    with pytest.raises(SchemaMismatch, match="older"):
        handle.check_schema()
    handle.migrate()
    handle.check_schema()
    engine = make_migration_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for refused in (handle.check_schema, handle.migrate, lambda: migrate.downgrade(empty_url, "base")):
        with pytest.raises(SchemaMismatch, match="9999 is newer than this program"):
            refused()
    engine.dispose()
    handle.dispose()


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_databases_that_cannot_hold_the_truth_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///FILE"):
        parse_url(url)
