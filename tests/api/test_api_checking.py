"""A study's data are read after it was stored: no request does more than bounded work; bad data are told with pointers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from optim_core.spec.states import StudyState
from optim_core.spec.validation import parse_spec
from service.client import ApiError, Client
from service.db import Database
from service.operations import access, checking, inspection, queue, studies
from service.operations.artifact_folder import ArtifactFolder
from service.operations.errors import Conflict
from tests.api.api_support import SPEC, CountingDispatcher, check_problem, make_client, studies_n
from tests.own_key import OWN_KEY

BROKER = {"broker_url": "redis://nowhere:1/0"}  # then somebody else checks
HUGE = {**SPEC, "dataset": {"kind": "builtin", "name": "synthetic_regression", "samples": 1_000_000, "features": 97}}

FOLDER = ArtifactFolder(Path("no uploads"))


def bad(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "one-row.csv"
    path.write_text("a,b\n1,2\n")
    return {**SPEC, "dataset": {"kind": "file", "path": str(path), "target": "b"}}


@pytest.mark.parametrize("wait", [0, 30])
def test_no_request_reads_data(database: Database, monkeypatch: pytest.MonkeyPatch, wait: int) -> None:
    """Neither is the data set made in it nor does it wait in a thread: a hundred such requests leave the API free."""
    go_on, reading = threading.Event(), []

    def slow(*_: object) -> None:
        reading.append(threading.current_thread().name)
        go_on.wait(60)

    monkeypatch.setattr(inspection, "inspect", slow)
    client = make_client(database)
    made: list[Any] = []
    sender = threading.Thread(target=lambda: made.append(client.post(f"/v1/studies?wait={wait}", json=HUGE)))
    sender.start()
    try:
        deadline = time.monotonic() + 60
        while not reading and time.monotonic() < deadline:
            time.sleep(0.01)
        assert reading == ["checker"]
        (row,) = make_client(database, **BROKER).get("/v1/studies").json()["items"]
        assert (row["status"], row["progress"]["stage"]) == ("checking", "checking")
        assert queue.claim_unit(database, "w", 60) is None
    finally:
        go_on.set()
        sender.join(60)
    assert made[0].status_code == 202
    assert made[0].json()["status"] == ("queued" if wait else "checking")


def test_with_wait_bad_data_are_told_at_once_and_nothing_stays(database: Database, tmp_path: Path) -> None:
    client = make_client(database)
    problem = check_problem(client.post("/v1/studies?wait=30", json=bad(tmp_path)), 422, "too_few_rows")
    assert problem["errors"][0]["pointer"].startswith("/dataset")
    assert studies_n(database) == 0


def test_without_it_the_study_fails_with_the_same_pointers(database: Database, tmp_path: Path) -> None:
    bell = CountingDispatcher()
    client = make_client(database, bell, **BROKER)
    study = client.post("/v1/studies", json=bad(tmp_path)).json()
    assert (study["status"], bell.rung) == ("checking", ["control"])
    assert checking.check_waiting(database, None, FOLDER) == 1
    assert checking.check_waiting(database, None, FOLDER) == 0
    failed = client.get(f"/v1/studies/{study['id']}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "too_few_rows")
    assert failed["error"]["errors"][0]["pointer"].startswith("/dataset")
    # Once the file is mended it goes on where it stopped: at the check.
    (tmp_path / "one-row.csv").write_text(
        "a,b\n" + "".join(f"{i * 37 % 61 / 8},{i * 17 % 59 / 7}\n" for i in range(60))
    )
    assert client.post(f"/v1/studies/{study['id']}/resume").json()["status"] == "checking"
    assert checking.check_waiting(database, None, FOLDER) == 1
    assert client.get(f"/v1/studies/{study['id']}").json()["status"] == "queued"


def test_files_outside_the_roots_are_refused_by_whoever_reads(database: Database, tmp_path: Path) -> None:
    study = studies.create_study(database, parse_spec(bad(tmp_path)), to_check=True)
    assert checking.check_waiting(database, [str(tmp_path / "inside")], FOLDER) == 1
    error = studies.get_study(database, study.id).error
    assert error is not None
    assert error.code == "path_not_allowed"


def test_a_lost_checker_is_replaced_and_one_that_dies_of_the_data_is_not_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = studies.create_study(database, parse_spec(SPEC), to_check=True)
    monkeypatch.setattr(checking, "LEASE_S", -1.0)  # whoever claims it is lost at once
    for _ in range(checking.TRIES):
        assert checking._claim(database, None) is not None
    assert studies.get_study(database, study.id).status == StudyState.CHECKING
    monkeypatch.setattr(checking, "LEASE_S", 60.0)
    assert checking.check_waiting(database, None, FOLDER) == 1
    error = studies.get_study(database, study.id).error
    assert error is not None
    assert error.code == "check_failed"


def test_studies_of_projects_are_checked_in_turn(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_spec(SPEC)
    for project in "aaabbc":
        access.set_quota(database, project)
        studies.create_study(database.of(project), spec, to_check=True)
    order: list[str] = []
    monkeypatch.setattr(
        checking, "_run", lambda db, check, *_: (order.append(check.project_id), checking._end(db, check))
    )
    assert checking.check_waiting(database, None, FOLDER) == 6
    assert "".join(order) == "abcaba"


def test_only_one_checks_and_a_late_verdict_counts_for_nothing(database: Database) -> None:
    study = studies.create_study(database, parse_spec(SPEC), to_check=True)
    check = checking._claim(database, None)
    assert check is not None
    assert checking._claim(database, None) is None
    with pytest.raises(Conflict, match="being checked"):
        studies.pause_study(database, study.id)
    with pytest.raises(Conflict):
        studies.delete_study(database, study.id)
    assert studies.cancel_study(database, study.id).status == StudyState.CANCELLED
    checking._run(database, check, None, FOLDER)
    assert studies.get_study(database, study.id).status == StudyState.CANCELLED


def test_what_breaks_the_check_tells_no_traceback(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.create_study(database, parse_spec(SPEC), to_check=True)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(inspection, "inspect", broken)
    checking.check_waiting(database, None, FOLDER)
    error = studies.get_study(database, study.id).error
    assert error is not None
    assert error.code == "check_failed"
    assert "inside" not in error.message


def test_the_sdk_waits_however_long_the_check_takes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.client.WAIT_S", 0)
    monkeypatch.setattr("service.client.client.LOOK_S", 0.01)
    transport = make_client(database)._transport
    with Client("http://testserver", OWN_KEY, transport=transport) as client:  # type: ignore[arg-type]
        with pytest.raises(ApiError) as caught:
            client.create_study(bad(tmp_path))
        assert (caught.value.status, caught.value.code) == (422, "too_few_rows")
        assert caught.value.errors[0]["pointer"].startswith("/dataset")
        assert studies_n(database) == 0
        assert client.create_study(SPEC)["status"] == "queued"


def test_inspect_refuses_what_would_take_long(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(database)
    check_problem(client.post("/v1/inspect", json=HUGE), 422, "too_large_to_inspect")
    monkeypatch.setattr(inspection, "MOST_BYTES", 4)
    check_problem(client.post("/v1/inspect", json=bad(tmp_path)), 422, "too_large_to_inspect")
