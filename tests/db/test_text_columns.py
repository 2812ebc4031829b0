"""Every text column holds the longest value that is legal in it, on both databases: SQLite does not look, PostgreSQL does."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, String, insert, select

from optim_core.spec.metrics import NAMED_METRICS
from optim_core.spec.optimizers import MAX_NAME, OPTIMIZERS
from optim_core.spec.states import StudyState, TrialState, UnitState
from service.api.asking import ClientId
from service.db import Database
from service.db.models import Base
from service.operations import queue, studies
from tests.api.api_support import make_client
from tests.db.support import claim, make_spec, make_unit, study_with_units
from tests.db.test_migrations import FROZEN

WRAPPED = "sam(lookahead(schedule_free_adamw))"
CLIENT = 100
assert f"{{1,{CLIENT}}}" in str(ClientId.__metadata__[0])


def longest(values: object) -> str:
    return max(map(str, values), key=len)  # type: ignore[call-overload]


def name_of_an_optimizer() -> str:
    """As long as the catalogue takes one: ``sam(sam(… (rmsprop)))``."""
    names = ["rmsprop"]
    while True:
        more = [f"{wrapper}({name})" for name in names[-60:] for wrapper in ("sam", "lookahead", "cautious")]
        more = [name for name in more if len(name) <= MAX_NAME]
        if not more or len(names) > 3000:
            return longest(names)
        names += more


def test_the_longest_name_is_one_of_the_catalogue() -> None:
    assert OPTIMIZERS[WRAPPED].name == WRAPPED
    assert 32 < len(WRAPPED) <= len(name_of_an_optimizer()) <= MAX_NAME


ID = "f" * 32
HASH = "e" * 64
# Of a whole sentence or a document there is no longest one.
LEGAL: dict[str, Callable[[], str]] = {
    "name": lambda: "ü" * 200,
    "model": lambda: "m" * 64,
    "dataset": lambda: "d" * 255,
    "metric": lambda: longest(NAMED_METRICS),
    "direction": lambda: longest(["minimize", "maximize"]),
    "stage": lambda: longest(["portfolio", "search", "screen", "confirm", "reference"]),
    "kind": lambda: longest(["probe", "train", "screen", "confirm", "reference"]),
    "origin": lambda: longest(["confirmation", "screening", "default"]),
    "verdict": lambda: longest(["better", "no_difference", "inconclusive"]),
    "type": lambda: longest(["recommendation", "study.finishing", "unit.requeued"]),
    "error_code": lambda: "c" * 64,
    "best_optimizer": name_of_an_optimizer,
    "winner": name_of_an_optimizer,
    "optimizer": name_of_an_optimizer,
    "study.state": lambda: longest(StudyState),
    "trial.state": lambda: longest(TrialState),
    "unit.state": lambda: longest(UnitState),
    "study.id": lambda: ID,
    "study_id": lambda: ID,
    # Keys of units are the planner's, and short; names of workers and clients are people's.
    "unit.key": lambda: "k" * 200,
    "worker_id": lambda: f"{ID}:{'c' * CLIENT}",
    "worker.id": lambda: f"{ID}:{'c' * CLIENT}",
    "device": lambda: "cpu × 4096 threads",
    "idempotency_key.key": lambda: "k" * 255,
    "spec_hash": lambda: HASH,
    "request_hash": lambda: HASH,
    "sha256": lambda: HASH,
    "instance": lambda: "i" * 100,
    "excluded": lambda: "ü" * 500,
    "project.id": lambda: "p" * 36,
    "project_id": lambda: "p" * 36,
    "access_key.id": lambda: "k" * 12,
    "access_key.kind": lambda: longest(["key", "session"]),
    "access_key.name": lambda: "ü" * 100,
    "scope": lambda: longest(["read", "write", "admin", "metrics"]),
    "digest": lambda: HASH,
    "hint": lambda: "wxyz",
    "artifact.id": lambda: ID,
    "artifact_id": lambda: ID,
    "artifact.name": lambda: "ü" * 255,
    "format": lambda: longest(["parquet", "feather", "weights"]),
    "content": lambda: "ü" * 200,
    "webhook.id": lambda: ID,
    "webhook_id": lambda: ID,
    "url": lambda: "https://" + "u" * 2040,
    "secret": lambda: "s" * 64,
    "access_key.parent_id": lambda: "k" * 12,
    "delivery.id": lambda: ID,
    "delivery.state": lambda: longest(["waiting", "delivered", "failed", "held"]),
    "delivery.error": lambda: "ü" * 200,
}


def text_columns() -> list[Column]:
    return [
        column
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, String) and column.type.length is not None
    ]


def legal(column: Column) -> str:
    make = LEGAL.get(f"{column.table.name}.{column.name}") or LEGAL.get(column.name)
    assert make is not None, f"say in LEGAL what the longest value of {column} is"
    return make()


def test_every_text_column_takes_its_longest_legal_value(database: Database) -> None:
    given: dict[str, dict[str, object]] = {name: dict(row) for name, row in FROZEN.items()}
    given["project"] = {"created_at": 1.0, "deleted_device_s": 0.0}
    for column in text_columns():
        value = legal(column)
        assert len(value) <= column.type.length, column  # type: ignore[operator]
        if column.table.name in given:
            given[column.table.name][column.name] = value
    with database.write() as session:
        for table in Base.metadata.sorted_tables:
            if table.name in given:
                session.execute(insert(table).values(given[table.name]))
    with database.read() as session:
        for column in text_columns():
            if column.table.name in given:
                assert given[column.table.name][column.name] in session.scalars(select(column)).all()


def test_trials_are_asked_for_by_the_longest_name(database: Database) -> None:
    study_id = studies.create_study(database, make_spec()).id
    answer = make_client(database).get(f"/v1/studies/{study_id}/trials", params={"optimizer": name_of_an_optimizer()})
    assert answer.json() == {"items": [], "next_cursor": None}


def test_what_a_persons_code_says_is_stored_whatever_it_holds(database: Database) -> None:
    study_id = study_with_units(database, [make_unit("a", [0])])
    for retryable in (True, False):
        held = claim(database, study_id)
        assert queue.fail_unit(database, held.unit_id, held.token, "user_code_error", "a\x00b \ud800", retryable)
    error = studies.get_study(database, study_id).error
    assert error is not None
    assert error.message == "a\\x00b \\ud800"
