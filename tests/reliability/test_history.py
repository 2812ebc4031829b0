"""The checker of histories finds what is planted, rule by rule, and nothing in a history that is right."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.db import Database
from service.operations import artifacts, planning, queue, studies, webhooks
from service.operations.artifact_folder import ArtifactFolder
from service.operations.artifacts import Received
from tests.db.support import claim, make_recommendation, make_result, make_spec, make_unit
from tests.reliability.history import RULES, Call, History, read, violations

NAME = "right"


def right(database: Database, folder: Path) -> str:
    """A completed study with all that may happen to one: a release, a lost worker, a pause, a promotion, a failed unit."""
    webhooks.create(database, "https://hooks.example.org/", ["https://hooks.example.org"])
    place = ArtifactFolder(folder)
    received = place.coming()
    received.write_bytes(b"x,y\n1,2\n")
    told = Received(received, hashlib.sha256(b"x,y\n1,2\n").hexdigest(), 8, "t.csv")
    artifacts.store(database, place, told, lambda *_: "a table")
    study = studies.create_study(database, make_spec().model_copy(update={"name": NAME}), idempotency_key="k").id
    planning.apply_plan(database, study, [make_unit("a", [0, 1]), make_unit("b", [2])], "search")
    got = claim(database)
    assert queue.release_unit(database, got.unit_id, got.token, b"state")
    claim(database)
    expire(database)
    assert len(queue.sweep(database).requeued) == 1
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    got = claim(database)
    assert queue.fail_unit(database, got.unit_id, got.token, "broken", "text", retryable=False)
    studies.resume_study(database, study)
    got = claim(database)
    studies.pause_study(database, study)
    assert queue.release_unit(database, got.unit_id, got.token)
    studies.resume_study(database, study)
    got = claim(database)
    assert queue.keep_turn(database, got.unit_id, got.token, b"state")
    expire(database)
    queue.sweep(database)
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    planning.apply_plan(database, study, [make_unit("c", [0], rung=1)], "promoted")
    got = claim(database)
    assert queue.complete_unit(database, got.unit_id, got.token, make_result(got.unit))
    # Paused when only the answer is missing.
    studies.pause_study(database, study)
    studies.resume_study(database, study)
    assert planning.finish_study(database, study, make_recommendation(study))
    return study


def expire(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE unit SET lease_until = 0 WHERE lease_until IS NOT NULL"))


def history(database: Database, folder: Path, study: str, **seen: Any) -> History:
    answer = studies.get_recommendation(database, study).document()
    calls = seen.pop("calls", [Call("k", NAME, "unknown"), Call("k", NAME, "ok", study)])
    expected = seen.pop("undisturbed", {NAME: answer})
    return read(database, folder=folder, calls=calls, undisturbed=expected, **seen)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> tuple[Path, str]:
    """A folder with the database of a right history and its files, to copy; and the study."""
    folder = tmp_path_factory.mktemp("right")
    shutil.copy(sqlite_template, folder / "right.db")
    database = Database(f"sqlite:///{folder / 'right.db'}")
    study = right(database, folder / "files")
    database.dispose()
    return folder, study


@pytest.fixture
def copied(made: tuple[Path, str], tmp_path: Path) -> tuple[Database, str]:
    """The same, of this test's own."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return Database(f"sqlite:///{tmp_path / 'right.db'}"), made[1]


def test_a_history_that_is_right_breaks_no_rule(database: Database, tmp_path: Path) -> None:
    study = right(database, tmp_path / "files")
    assert violations(history(database, tmp_path / "files", study, streamed={study: [1, 2, 3]})) == []


# Of each rule, statements that make a right history a wrong one.
PLANTED: dict[str, list[str]] = {
    "H1": ["UPDATE study SET name = 'lost'", "UPDATE idempotency_key SET key = 'other'"],
    "H2": [],
    "H3": [
        "UPDATE unit SET fence = fence + 1 WHERE key = 'a'",
        "UPDATE unit SET state = 'queued', result = NULL WHERE key = 'b'",
        "UPDATE event SET data = (SELECT data FROM event WHERE type = 'trial.done' ORDER BY id LIMIT 1)"
        " WHERE type = 'trial.done'",
    ],
    "H4": [
        "UPDATE event SET type = 'progress' WHERE type = 'unit.requeued'",
        "UPDATE event SET type = 'unit.requeued' WHERE type = 'recommendation'",
        "UPDATE event SET at = at - 3600 WHERE id = 9",
    ],
    "H5": [
        "UPDATE study SET state = 'running'",
        "UPDATE study SET finished_at = NULL",
        "DELETE FROM recommendation",
        "DELETE FROM event WHERE id = (SELECT max(id) FROM event) - 2",
        "UPDATE unit SET result = NULL WHERE key = 'a'",
        "UPDATE unit SET lease_until = 1 WHERE key = 'a'",
        "UPDATE trial SET state = 'running' WHERE number = 1",
        "DELETE FROM delivery WHERE id = (SELECT min(id) FROM delivery)",
    ],
    "H6": ["UPDATE study SET state = 'queued'", "UPDATE unit SET state = 'leased' WHERE key = 'c'"],
    "H7": ["DELETE FROM event WHERE id = 3", "UPDATE event SET id = 1000 WHERE id = (SELECT max(id) FROM event)"],
    "H8": [
        "UPDATE artifact SET sha256 = 'a'",
        "DELETE FROM artifact",
        "INSERT INTO checkpoint (unit_id, data, sha256, saved_at) SELECT id, '', '', 0 FROM unit WHERE key = 'a'",
    ],
    "H9": [
        "UPDATE study SET trials_done = trials_done + 1",
        "UPDATE study SET trials_planned = 99",
        "UPDATE study SET train_steps = train_steps - 1",
        "UPDATE study SET device_s = device_s + 1",
        "UPDATE study SET confirm_done = 1",
    ],
    "H10": [],
}  # fmt: skip


@pytest.mark.parametrize(("rule", "statement"), [(rule, one) for rule, all_ in PLANTED.items() for one in all_])
def test_what_is_planted_is_found(rule: str, statement: str, copied: tuple[Database, str], tmp_path: Path) -> None:
    database, study = copied
    answer = studies.get_recommendation(database, study).document()
    with database.write() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        session.execute(text(statement))
    calls = [Call("k", NAME, "ok", study)]
    found = violations(read(database, folder=tmp_path / "files", calls=calls, undisturbed={NAME: answer}))
    assert rule in {said.split(":")[0] for said in found}, found


def unasked(study: str) -> dict[str, Any]:
    return {"calls": [Call("k", "another", "ok", study)]}


def two_answers(study: str) -> dict[str, Any]:
    return {"calls": [Call("k", NAME, "ok", study), Call("k", NAME, "ok", "b" * 32)]}


def another_answer(study: str) -> dict[str, Any]:
    return {"undisturbed": {NAME: {**make_recommendation(study).document(), "headline": "SGD it is"}}}


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        ("H1", unasked),
        ("H2", unasked),
        ("H2", two_answers),
        ("H7", lambda study: {"streamed": {study: [1, 3]}}),
        ("H7", lambda study: {"streamed": {study: [1, 2, 2]}}),
        ("H10", another_answer),
    ],
)
def test_what_clients_saw_counts(
    rule: str, seen: Callable[[str], dict[str, Any]], copied: tuple[Database, str], tmp_path: Path
) -> None:
    database, study = copied
    found = violations(history(database, tmp_path / "files", study, **seen(study)))
    assert rule in {said.split(":")[0] for said in found}, found


def test_a_file_without_a_row_is_found_whatever_its_age(copied: tuple[Database, str], tmp_path: Path) -> None:
    database, study = copied
    stray = tmp_path / "files" / ("f" * 64) / "data.csv"
    stray.parent.mkdir()
    stray.write_bytes(b"?")
    os.utime(stray, (time.time() - 7200,) * 2)
    said = f"H8: {'f' * 64}/data.csv has no row"
    assert violations(history(database, tmp_path / "files", study)) == [said]
    # And the sweep of files removes it.
    assert artifacts.collect(database, ArtifactFolder(tmp_path / "files"), 3600.0) == 1
    assert violations(history(database, tmp_path / "files", study)) == []


def test_every_rule_has_something_planted() -> None:
    assert set(PLANTED) == set(RULES)
