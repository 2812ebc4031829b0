"""Ask, report and tell over REST: what is answered, and what is refused how."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.db import Database
from service.operations import planning
from tests.api.api_support import SPEC, CountingDispatcher, check_problem, make_client
from tests.db.support import make_unit

EXTERNAL: dict[str, Any] = {"model": {"kind": "external", "steps": 100}, "metric": "loss", "budget": {"trials": 5}}


def started(database: Database, dispatcher: CountingDispatcher | None = None) -> tuple[TestClient, str]:
    client = make_client(database, dispatcher)
    made = client.post("/v1/studies", json=EXTERNAL)
    assert made.status_code == 202, made.text
    study_id = made.json()["id"]
    assert planning.apply_plan(database, study_id, [make_unit("u", [0])], "plan") == 1
    return client, study_id


def asked(client: TestClient, study_id: str) -> dict[str, Any]:
    answer = client.post(f"/v1/studies/{study_id}/ask", json={"client_id": "a"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_from_ask_to_tell(database: Database) -> None:
    dispatcher = CountingDispatcher()
    client, study_id = started(database, dispatcher)
    trial = asked(client, study_id)["trial"]
    assert asked(client, study_id)["trial"] == trial
    mine = {"client_id": "a", "token": trial["token"]}
    path = f"/v1/studies/{study_id}/trials/0"
    points = [{"step": 2, "loss": 0.5}, {"step": 1, "loss": 0.7, "value": 3}]
    assert client.post(f"{path}/report", json={**mine, "points": points}).json() == {"go_on": True, "reason": None}
    assert client.post(f"{path}/heartbeat", json=mine).json()["go_on"]
    assert client.post(f"{path}/release", json={**mine, "client_id": "else"}).json() == {"released": False}
    [who] = client.get(f"/v1/studies/{study_id}/clients").json()
    assert (who["id"], who["trial"], who["step"], who["late"]) == ("a", 0, 2, False)
    rung = len(dispatcher.rung)
    told = client.post(f"{path}/tell", json={**mine, "value": 0.25})
    assert told.json() == {"number": 0, "state": "completed", "status": "running"}
    assert dispatcher.rung[rung:] == ["control"]
    assert client.post(f"{path}/tell", json={**mine, "value": 0.25}).json() == told.json()
    assert client.get(path).json()["metric"] == 0.25
    empty = client.post(f"/v1/studies/{study_id}/ask", json={"client_id": "a", "wait_s": 0.2}).json()
    assert (empty["trial"], empty["ended"]) == (None, False)
    assert empty["wait"] > 0
    client.post(f"/v1/studies/{study_id}/cancel")
    assert asked(client, study_id)["ended"]
    check_problem(client.post(f"{path}/tell", json={**mine, "token": "1.7", "value": 1.0}), 409, "trial_finished")


def test_nan_is_taken_for_what_it_says(database: Database) -> None:
    client, study_id = started(database)
    trial = asked(client, study_id)["trial"]
    body = f'{{"client_id": "a", "token": "{trial["token"]}", "points": [{{"step": 4, "loss": NaN}}]}}'
    path = f"/v1/studies/{study_id}/trials/0"
    answer = client.post(f"{path}/report", content=body, headers={"Content-Type": "application/json"})
    assert answer.json() == {"go_on": False, "reason": "diverged"}
    assert client.get(path).json()["state"] == "diverged"


def test_studies_of_engines_have_no_trials_to_give(database: Database) -> None:
    client = make_client(database)
    study_id = client.post("/v1/studies?wait=30", json=SPEC).json()["id"]
    check_problem(client.post(f"/v1/studies/{study_id}/ask", json={"client_id": "a"}), 409, "not_external")
    check_problem(client.post("/v1/studies/nobody/ask", json={"client_id": "a"}), 404, "study_not_found")
    check_problem(client.get("/v1/studies/nobody/clients"), 404, "study_not_found")


@pytest.mark.parametrize(
    ("what", "body", "code"),
    [
        ("ask", {}, "field_required"),
        ("ask", {"client_id": ""}, "invalid_value"),
        ("ask", {"client_id": "a\n"}, "invalid_value"),
        ("ask", {"client_id": "a" * 101}, "invalid_value"),
        ("ask", {"client_id": "a", "wait_s": 31}, "invalid_value"),
        ("ask", {"client_id": "a", "wait_s": True}, "invalid_value"),
        ("ask", {"client_id": "a", "x": 1}, "unknown_field"),
        ("ask", [], "invalid_value"),
        ("trials/0/report", {"client_id": "a", "token": "1.1"}, "field_required"),
        ("trials/0/report", {"client_id": "a", "token": "1.1", "points": [{"loss": 1}]}, "field_required"),
        ("trials/0/report", {"client_id": "a", "token": "1.1", "points": [{"step": "1"}]}, "invalid_value"),
        ("trials/0/report", {"client_id": "a", "token": "1.1", "points": [{"step": True}]}, "invalid_value"),
        ("trials/0/report", {"client_id": "a", "token": "1.1", "points": [{"step": 1}] * 1001}, "invalid_value"),
        ("trials/0/report", {"client_id": "a", "token": "1.1", "points": [{"step": 2**40}]}, "step_out_of_range"),
        ("trials/0/tell", {"client_id": "a", "token": "1.1"}, "field_required"),
        ("trials/0/tell", {"client_id": "a", "token": "1.1", "value": 1, "failed": "no"}, "field_required"),
        ("trials/0/tell", {"client_id": "a", "token": "1.1", "value": "1"}, "invalid_value"),
        ("trials/0/tell", {"client_id": "a", "token": "1.1", "value": 1, "rows": [0.0, 0.0]}, "rows_mismatch"),
    ],
)
def test_bodies_that_say_nothing_are_refused_by_name(database: Database, what: str, body: Any, code: str) -> None:
    client, study_id = started(database)
    asked(client, study_id)
    check_problem(client.post(f"/v1/studies/{study_id}/{what}", json=body), 422, code)


def test_unknown_trials_and_tokens_are_404(database: Database) -> None:
    client, study_id = started(database)
    asked(client, study_id)
    for number, token in ((1, "1.1"), (0, "99.1"), (0, "x")):
        answer = client.post(
            f"/v1/studies/{study_id}/trials/{number}/tell", json={"client_id": "a", "token": token, "value": 1}
        )
        check_problem(answer, 404, "trial_not_asked")
