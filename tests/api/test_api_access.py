"""Who is let in: every operation of the OpenAPI document with no key, a foreign one, a small one, and dead ones."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import MetaData, select, text, update

from service.app import create_app
from service.db import Database
from service.db.models import AccessKey
from service.dispatch.null import NullDispatcher
from service.operations import access, planning, studies
from service.operations.door import WRONG_PER_MINUTE
from service.operations.events import news, opening_keys
from service.settings import Settings
from tests.api.api_support import SPEC, check_problem, make_client
from tests.db.support import make_spec, make_unit

# What anybody may see: that the server lives, how its pages look, and the way in.
OPEN = {("GET", "/healthz"), ("GET", "/static/{name}"), ("GET", "/signin"), ("POST", "/signin")}
HOOK, ABSENT = "https://hooks.example.org", "f" * 32
EXTERNAL: dict[str, Any] = {"model": {"kind": "external", "steps": 100}, "metric": "loss", "budget": {"trials": 5}}


def key_of(database: Database, project: str, scope: access.Scope = "write", days: float | None = None) -> str:
    return access.create_key(database, project, scope, days=days).key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def expire(database: Database, key: str) -> None:
    with database.write() as session:
        session.execute(update(AccessKey).where(AccessKey.id == access.named(key)).values(expires_at=1.0))


def everything(database: Database) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with database.read() as session:
        tables = MetaData()
        tables.reflect(session.connection())
        return {
            name: sorted(map(repr, session.execute(select(table)).all()))
            for name, table in sorted(tables.tables.items())
        }


class Matrix:
    """A study of one project, with a trial that a client of its own loop holds, and every operation filled in for it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        settings = Settings(allowed_hosts=["testserver"], data_dir=folder, webhook_hosts=[HOOK])
        # Many keys are tried from one address.
        self.app = create_app(settings, database, NullDispatcher())
        self.app.state.door._rates._per_minute["wrong keys"] = 10_000
        self.client = TestClient(self.app, raise_server_exceptions=False)
        self.own = bearer(key_of(database, "ours"))
        made = self.client.post("/v1/studies", json=EXTERNAL, headers=self.own)
        assert made.status_code == 202, made.text
        self.study = made.json()["id"]
        planning.apply_plan(database, self.study, [make_unit("u", [0])], "plan")
        asked = self.client.post(f"/v1/studies/{self.study}/ask", json={"client_id": "a"}, headers=self.own).json()
        mine = {"client_id": "a", "token": asked["trial"]["token"]}
        table = b"x,y\n" + b"1,2\n" * 9
        uploaded = self.client.post("/v1/artifacts", params={"name": "t.csv"}, content=table, headers=self.own)
        assert uploaded.status_code == 201, uploaded.text
        self.artifact = uploaded.json()["id"]
        hook = self.client.post("/v1/webhooks", json={"url": f"{HOOK}/ended"}, headers=self.own)
        assert hook.status_code == 201, hook.text
        self.webhook = hook.json()["id"]
        self.bodies: dict[str, Any] = {
            "/v1/studies": SPEC,
            "/v1/inspect": SPEC,
            "/v1/studies/{study_id}/ask": {"client_id": "a"},
            "/v1/studies/{study_id}/trials/{number}/report": {**mine, "points": [{"step": 1, "loss": 0.5}]},
            "/v1/studies/{study_id}/trials/{number}/heartbeat": mine,
            "/v1/studies/{study_id}/trials/{number}/release": mine,
            "/v1/studies/{study_id}/trials/{number}/tell": {**mine, "value": 1.0},
            "/v1/studies/{study_id}/trials/{number}/exclude": {"reason": "a wrong cable"},
            "/v1/webhooks": {"url": f"{HOOK}/other"},
            "/v1/keys": {},
            "/v1/projects/{name}": {},
        }

    def operations(self) -> Iterator[tuple[str, str]]:
        for path, methods in self.app.openapi()["paths"].items():
            for method in methods:
                yield method.upper(), path

    def send(self, method: str, path: str, headers: dict[str, str], absent: bool = False) -> Any:
        filled = path.replace("{number}", "0")
        for name, found in self.owned().items():
            filled = filled.replace(name, ABSENT if absent else found)
        filled = filled.replace("{key_id}", "0" * 12).replace("{name}", "adamw")
        body = self.bodies.get(path) if method != "GET" else None
        return self.client.request(method, filled, headers=headers, json=body)

    def owned(self) -> dict[str, str]:
        """What stands in an address for a thing of one project → the thing that is there."""
        return {"{study_id}": self.study, "{artifact_id}": self.artifact, "{webhook_id}": self.webhook}


@pytest.fixture
def matrix(database: Database, tmp_path: Path) -> Matrix:
    return Matrix(database, tmp_path)


def test_every_operation_refuses_who_has_no_valid_key(matrix: Matrix) -> None:
    revoked, expired = (key_of(matrix.database, "ours", "admin") for _ in range(2))
    access.revoke_key(matrix.database, str(access.named(revoked)))
    expire(matrix.database, expired)
    unknown, wrong = access.new_secret(), matrix.own["Authorization"][7:-1] + "~"
    before, bodies = everything(matrix.database), set()
    for method, path in matrix.operations():
        if (method, path) in OPEN:
            assert matrix.send(method, path, {}).status_code == 200
            continue
        for key in (None, revoked, expired, unknown, wrong, "", "Ω"):
            headers = {} if key is None else {"Authorization": f"Bearer {key}".encode()}
            answer = matrix.send(method, path, headers)  # type: ignore[arg-type]
            problem = check_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer"), path
            bodies.add(problem["detail"] if key not in (None, "") else None)
    # Why a key opens nothing is nobody's business.
    assert len(bodies) == 2
    assert everything(matrix.database) == before


def test_a_foreign_key_finds_nothing_and_changes_nothing(matrix: Matrix) -> None:
    foreign = {**bearer(key_of(matrix.database, "theirs")), "X-Request-ID": "the-same"}
    before, tried = everything(matrix.database), 0
    for method, path in matrix.operations():
        owned = next((key for name, key in matrix.owned().items() if name in path), None)
        if owned is None:
            continue
        tried += 1
        found, absent = (matrix.send(method, path, foreign, absent) for absent in (False, True))
        # Word for word what is said of one that there is not.
        assert found.status_code == absent.status_code == 404, (method, path, found.text)
        assert found.text.replace(owned, ABSENT) == absent.text
    assert tried > 20
    for place in ("studies", "artifacts", "webhooks"):
        assert matrix.client.get(f"/v1/{place}", headers=foreign).json()["items"] == []
        assert len(matrix.client.get(f"/v1/{place}", headers=matrix.own).json()["items"]) == 1
    theirs = {**SPEC, "dataset": {"kind": "artifact", "id": matrix.artifact, "target": "y"}}
    for place in ("studies", "inspect"):
        refused = matrix.client.post(f"/v1/{place}", json=theirs, headers=foreign)
        check_problem(refused, 422, "artifact_not_found")
    for page in (f"/studies/{matrix.study}", f"/studies/{matrix.study}/live", f"/studies/{matrix.study}/trials/0"):
        assert matrix.client.get(page, headers=foreign).status_code == 404
    assert matrix.study not in matrix.client.get("/", headers=foreign).text
    assert everything(matrix.database) == before
    assert matrix.study in matrix.client.get("/", headers=matrix.own).text


def test_a_key_that_reads_reads_and_one_that_writes_manages_no_keys(matrix: Matrix) -> None:
    # Its stream of events ends with it.
    studies.cancel_study(matrix.database, matrix.study)
    reading = bearer(key_of(matrix.database, "ours", "read"))
    before = everything(matrix.database)
    for method, path in matrix.operations():
        answer = matrix.send(method, path, reading)
        operates = re.match(r"/v1/(keys|projects)|/metrics", path)
        if method == "GET" and not operates:
            assert answer.status_code in (200, 409), (path, answer.text)
        else:
            check_problem(answer, 403, "scope_missing")
        if operates:
            check_problem(matrix.send(method, path, matrix.own), 403, "scope_missing")
    assert everything(matrix.database) == before


def test_every_address_needs_a_key_but_those_that_are_open(matrix: Matrix) -> None:
    seen = set()
    for route in iter_route_contexts(matrix.app.routes):
        for method in route.methods or {"GET"}:
            seen.add((method, str(route.path)))
            if (method, str(route.path)) not in OPEN:
                filled = re.sub(r"\{[^}]+\}", "0" * 12, str(route.path))
                assert matrix.client.request(method, filled).status_code == 401, (method, route.path)
    assert seen >= OPEN | {("GET", "/"), ("GET", "/openapi.json"), ("GET", "/readyz"), ("POST", "/v1/studies")}


def test_the_document_says_what_needs_a_key(matrix: Matrix) -> None:
    paths = matrix.app.openapi()["paths"]
    for method, path in matrix.operations():
        operation = paths[path][method.lower()]
        assert bool(operation.get("security")) == ((method, path) not in OPEN)
        assert (method, path) in OPEN or {"401", "403", "429"} <= set(operation["responses"])


def test_projects_have_their_own_idempotency_keys(database: Database) -> None:
    client, known = make_client(database), {"Idempotency-Key": "build-71"}
    made = [
        client.post("/v1/studies", json=SPEC, headers={**known, **bearer(key)}).json()["id"]
        for key in (key_of(database, "a"), key_of(database, "b"), key_of(database, "a"))
    ]
    assert made[0] == made[2] != made[1]


def test_a_revoked_key_opens_nothing_from_then_on_not_even_a_stream_that_runs(database: Database) -> None:
    client, key = make_client(database), key_of(database, "ours")
    study = client.post("/v1/studies", json=SPEC, headers=bearer(key)).json()["id"]

    def and_revoke(*arguments: Any) -> Any:
        found = news(*arguments)
        access.revoke_key(database, str(access.named(key)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.events.news", and_revoke)
        # The study has not ended, and nothing else would end the stream.
        text_ = client.get(f"/v1/studies/{study}/events", headers=bearer(key)).text
    assert "event: end" not in text_
    check_problem(client.get("/v1/studies", headers=bearer(key)), 401, "unauthorized")


def test_keys_are_managed_over_the_api_and_shown_once(database: Database) -> None:
    client = make_client(database)
    check_problem(client.post("/v1/keys", json={"project": "No!"}), 422, "invalid_value")
    check_problem(client.post("/v1/keys", json={"days": 0}), 422, "invalid_value")
    check_problem(client.post("/v1/keys", json={"name": "a\nb"}), 422, "invalid_value")
    check_problem(client.post("/v1/keys", json={"name": "a\u202eb"}), 422, "invalid_value")
    for send in (client.post, client.put):
        place = "/v1/keys" if send == client.post else "/v1/projects/lab"
        check_problem(send(place, content=b"{}"), 415, "unsupported_media_type")
    check_problem(client.post("/v1/keys", json={"scop": "read"}), 422, "unknown_field")
    made = client.post("/v1/keys", json={"project": "lab", "scope": "read", "name": "ci", "days": 1})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert re.fullmatch(r"wo_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key["key"])
    assert key["shown"] == f"wo_{key['id']}_…{key['key'][-4:]}"
    listed = client.get("/v1/keys").json()
    assert listed == [{name: value for name, value in key.items() if name != "key"}]
    with database.read() as session:
        stored = session.execute(select(AccessKey)).scalar_one()
    secret = key["key"].split("_", 2)[2]
    assert not any(secret in str(value) for value in vars(stored).values())
    assert client.get("/v1/studies", headers=bearer(key["key"])).status_code == 200
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
    assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
    check_problem(client.delete(f"/v1/keys/{'0' * 12}"), 404, "key_not_found")
    assert client.get("/v1/keys").json()[0]["state"] == "revoked"
    check_problem(client.get("/v1/studies", headers=bearer(key["key"])), 401, "unauthorized")


def test_an_admin_key_of_a_project_rules_that_project_alone(database: Database) -> None:
    client = make_client(database)
    theirs, mine = access.create_key(database, "theirs"), access.create_key(database, "ours")
    admin = bearer(key_of(database, "ours", "admin"))
    listed = client.get("/v1/keys", headers=admin).json()
    assert {row["project"] for row in listed} == {"ours"}
    assert mine.id in {row["id"] for row in listed}
    assert [row["name"] for row in client.get("/v1/projects", headers=admin).json()] == ["ours"]
    before = everything(database)
    for project in ("theirs", "none-of-this-name"):
        # Word for word the same whether there is one or not.
        for refused in (
            client.post("/v1/keys", json={"project": project}, headers=admin),
            client.put(f"/v1/projects/{project}", json={"max_studies": 1}, headers=admin),
        ):
            assert check_problem(refused, 404, "project_not_found")["detail"] == f"there is no project {project!r}"
    for key_id in (theirs.id, "0" * 12):
        check_problem(client.delete(f"/v1/keys/{key_id}", headers=admin), 404, "key_not_found")
    for refused in (
        client.put("/v1/projects/ours", json={"max_studies": 1}, headers=admin),
        client.get("/metrics", headers=admin),
        client.post("/v1/keys", json={"scope": "metrics"}, headers=admin),
    ):
        check_problem(refused, 403, "scope_missing")
    assert everything(database) == before
    # What it makes without naming a project is its project's, admin keys among it.
    made = client.post("/v1/keys", json={"scope": "admin"}, headers=admin).json()
    assert made["project"] == "ours"
    assert client.delete(f"/v1/keys/{mine.id}", headers=bearer(made["key"])).status_code == 204


def test_an_admin_key_without_a_project_is_of_the_whole_server(database: Database) -> None:
    client = make_client(database)
    made = client.post("/v1/keys", json={"scope": "admin"}).json()
    assert made["project"] is None
    whole = bearer(made["key"])
    assert client.post("/v1/keys", json={"project": "lab"}, headers=whole).json()["project"] == "lab"
    assert client.post("/v1/keys", json={}, headers=whole).json()["project"] == "default"
    assert client.put("/v1/projects/lab", json={"max_studies": 1}, headers=whole).status_code == 200
    assert len(client.get("/v1/keys", headers=whole).json()) == 3
    assert client.get("/metrics", headers=whole).status_code == 200
    # Its own studies are those of the project that nobody has to name.
    study = client.post("/v1/studies", json=SPEC, headers=whole).json()["id"]
    assert studies.get_study(database.of("default"), study).id == study
    # And a stream of them goes on for as long as the key is valid.
    assert opening_keys(database, [made["id"]]) == {made["id"]}
    # An admin of that project is none of the server.
    small = bearer(key_of(database, "default", "admin"))
    assert made["id"] not in {row["id"] for row in client.get("/v1/keys", headers=small).json()}
    check_problem(client.delete(f"/v1/keys/{made['id']}", headers=small), 404, "key_not_found")


def test_a_key_for_figures_reads_them_and_nothing_else(matrix: Matrix) -> None:
    scraper = bearer(access.create_key(matrix.database, scope="metrics").key)
    before = everything(matrix.database)
    for method, path in matrix.operations():
        if path == "/metrics":
            assert matrix.send(method, path, scraper).status_code == 200
        elif (method, path) not in OPEN:
            check_problem(matrix.send(method, path, scraper), 403, "scope_missing")
    # Nor does it let a browser in, which would read.
    assert matrix.client.post("/signin", data={"key": scraper["Authorization"][7:]}).status_code == 403
    assert everything(matrix.database) == before
    refused = make_client(matrix.database).post("/v1/keys", json={"scope": "metrics", "project": "lab"})
    check_problem(refused, 422, "invalid_parameter")


def test_wrong_keys_are_logged_without_the_key_and_soon_slowed_down(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    client, right = make_client(database), key_of(database, "ours")
    with caplog.at_level(logging.WARNING, logger="whichopt.access"):
        wrong = [access.new_secret() for _ in range(WRONG_PER_MINUTE + 1)]
        answers = [client.get("/v1/studies", headers=bearer(key)) for key in wrong]
    check_problem(answers[0], 401, "unauthorized")
    check_problem(answers[-1], 429, "rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert len(caplog.messages) == WRONG_PER_MINUTE
    assert str(access.named(wrong[0])) in caplog.text
    assert not any(key.split("_", 2)[2] in caplog.text for key in wrong)
    # Whoever has a key is not locked out by others.
    assert client.get("/v1/studies", headers=bearer(right)).status_code == 200


def test_a_key_may_ask_so_often_a_minute(database: Database) -> None:
    client = make_client(database, reads_per_minute=5, submissions_per_minute=2, reports_per_minute=9)
    one, other = bearer(key_of(database, "ours")), bearer(key_of(database, "ours"))
    now = [100.0]
    client.app.state.door._rates._clock = lambda: now[0]  # type: ignore[attr-defined]
    assert {client.get("/v1/studies", headers=one).status_code for _ in range(5)} == {200}
    refused = client.get("/v1/studies", headers=one)
    check_problem(refused, 429, "rate_limited")
    assert refused.headers["retry-after"] == "12"
    assert client.get("/v1/studies", headers=other).status_code == 200
    made = [client.post("/v1/studies", json=SPEC, headers=one).status_code for _ in range(3)]
    assert made == [202, 202, 429]
    asked = [client.post("/v1/studies/none/ask", json={"client_id": "a"}, headers=one) for _ in range(10)]
    assert [answer.status_code for answer in asked] == [404] * 9 + [429]
    now[0] += 12.0
    assert [client.get("/v1/studies", headers=one).status_code for _ in range(2)] == [200, 429]
    # Whoever runs the server is not counted.
    assert {client.get("/v1/studies").status_code for _ in range(12)} == {200}


def test_a_project_has_its_quota_of_studies_and_of_device_seconds(database: Database) -> None:
    client, key = make_client(database), bearer(key_of(database, "lab"))
    assert client.put("/v1/projects/lab", json={"max_studies": 2, "max_device_s": 100}).json()["max_studies"] == 2
    made = [client.post("/v1/studies", json=SPEC, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in made] == [202, 202, 429]
    problem = check_problem(made[-1], 429, "quota_exceeded")
    assert "2 of 2 studies" in problem["detail"]
    assert made[-1].headers["retry-after"]
    first = made[0].json()["id"]
    client.post(f"/v1/studies/{first}/cancel", headers=key)
    assert client.post("/v1/studies", json=SPEC, headers=key).status_code == 202
    # What is not named stays.
    assert client.put("/v1/projects/lab", json={}).json()["max_studies"] == 2
    kept = client.put("/v1/projects/lab", json={"max_studies": None}).json()
    assert (kept["max_studies"], kept["max_device_s"]) == (None, 100)
    with database.write() as session:
        session.execute(text("UPDATE study SET device_s = 99.5 WHERE id = :id"), {"id": first})
    assert client.post("/v1/studies", json=SPEC, headers=key).status_code == 202
    with database.write() as session:
        session.execute(text("UPDATE study SET device_s = 100 WHERE id = :id"), {"id": first})
    check_problem(client.post("/v1/studies", json=SPEC, headers=key), 429, "quota_exceeded")
    # Deleting gives nothing back.
    assert client.delete(f"/v1/studies/{first}", headers=key).status_code == 204
    detail = check_problem(client.post("/v1/studies", json=SPEC, headers=key), 429, "quota_exceeded")["detail"]
    assert detail == "the project lab used 100 of 100 device seconds"
    [lab] = [row for row in client.get("/v1/projects").json() if row["name"] == "lab"]
    assert (lab["device_s"], lab["max_studies"]) == (100.0, None)
    assert client.post("/v1/studies", json=SPEC).status_code == 202


def test_a_repeat_of_what_was_sent_needs_no_quota(database: Database) -> None:
    client, key = make_client(database), {**bearer(key_of(database, "lab")), "Idempotency-Key": "k"}
    client.put("/v1/projects/lab", json={"max_studies": 1})
    made = [client.post("/v1/studies", json=SPEC, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in made] == [202, 202]
    assert made[0].json()["id"] == made[1].json()["id"]


def at_once(times: int, call: Callable[[], Any]) -> list[Any]:
    """What came of so many calls at the same time: a value, or the code of an error."""
    outcomes, ready = [], threading.Barrier(times)

    def run() -> None:
        ready.wait()
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(getattr(error, "code", repr(error)))

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_studies_that_come_at_once_share_one_quota(database: Database) -> None:
    access.set_quota(database, "lab", max_studies=3)
    lab = database.of("lab")
    outcomes = at_once(8, lambda: studies.create_study(lab, make_spec()).id)
    assert outcomes.count("quota_exceeded") == 5, outcomes
    assert len(studies.list_studies(lab).items) == 3


def test_keys_of_a_new_project_may_be_made_at_once(database: Database) -> None:
    made = at_once(6, lambda: access.create_key(database, "new").project)
    assert made == ["new"] * 6
    assert [row.name for row in access.list_projects(database)] == ["default", "new"]
