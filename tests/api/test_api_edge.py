"""Whom the server answers: names of its own, pages of its own; HEAD; headers of every answer."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))
from api_support import SPEC, check_problem, make_client, studies_n

from service.db import Database
from service.settings import Settings
from workers.local import as_environment


@pytest.fixture
def client(sqlite_template: Path, tmp_path: Path) -> TestClient:
    return client_of(sqlite_template, tmp_path)


def client_of(template: Path, folder: Path, **settings: object) -> TestClient:
    (folder / "x.db").write_bytes(template.read_bytes())
    return make_client(Database(f"sqlite:///{folder / 'x.db'}"), **settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::1", "localhost", "192.0.2.7"])
def test_a_server_answers_to_its_own_names_whatever_it_binds(sqlite_template: Path, tmp_path: Path, host: str) -> None:
    client = client_of(sqlite_template, tmp_path, host=host, allowed_hosts=None)
    for name in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000"):
        assert client.get("/healthz", headers={"Host": name}).status_code == 200, name
    own = {"127.0.0.2", "192.0.2.7"} & {host}
    for name in {
        "evil.example",
        "testserver",
        "127.0.0.2",
        "192.0.2.7",
        "localhost.evil.example",
        "a b",
        "",
        "0.0.0.0",
    } - own:
        for path in ("/healthz", "/", "/v1/studies", "/openapi.json"):
            problem = check_problem(client.get(path, headers={"Host": name}), 400, "invalid_host")
            assert not name or name not in problem["detail"]
    for name in own:
        assert client.get("/healthz", headers={"Host": f"{name}:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("version", "host", "status"), [("1.0", "", 200), ("1.0", "evil.example", 400), ("1.1", "", 400)]
)
def test_a_load_balancer_may_ask_without_a_name(client: TestClient, version: str, host: str, status: int) -> None:
    """No browser does, so nobody's name can be made to stand for this server."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": version, "method": "GET", "path": "/healthz", "raw_path": b"/healthz",
        "query_string": b"", "scheme": "http", "headers": [(b"host", host.encode())] if host else [], "client": ("::1", 1),
        "server": ("::1", 80),
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))  # type: ignore[call-arg]
    assert sent[0]["status"] == status


def test_names_can_be_added(sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHICHOPT_ALLOWED_HOSTS", "opt.example.org, *.lab.example")
    client = client_of(sqlite_template, tmp_path, allowed_hosts=Settings().allowed_hosts)
    for name, status in (("opt.example.org", 200), ("a.lab.example:80", 200), ("127.0.0.1", 200), ("example.org", 400)):
        assert client.get("/healthz", headers={"Host": name}).status_code == status
    assert as_environment(Settings())["WHICHOPT_ALLOWED_HOSTS"] == "opt.example.org,*.lab.example"
    for wrong in ("*", "a.*.b", "http://x", "x:8000"):
        with pytest.raises(ValueError, match="no name of a host"):
            Settings(allowed_hosts=[wrong])


OF_ANOTHER_SITE = [
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://testserver:81"},
]  # fmt: skip
OF_OURS = [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "https://testserver"}]


def test_pages_of_other_sites_change_nothing(client: TestClient) -> None:
    study = client.post("/v1/studies", json=SPEC).json()["id"]
    ways = [("POST", "/v1/studies"), ("POST", f"/v1/studies/{study}/cancel"), ("DELETE", f"/v1/studies/{study}"),
            ("POST", "/v1/inspect"), ("PUT", "/nowhere")]  # fmt: skip
    for headers in OF_ANOTHER_SITE:
        for method, path in ways:
            check_problem(client.request(method, path, json=SPEC, headers=headers), 403, "csrf_rejected")
        assert client.get("/v1/studies", headers=headers).status_code == 200
    assert client.get(f"/v1/studies/{study}").json()["status"] in ("checking", "queued")
    for headers in OF_OURS:
        assert client.post("/v1/studies", json=SPEC, headers=headers).status_code == 202


def test_every_answer_has_the_headers(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    answers = [client.get(path) for path in ("/", "/healthz", "/nowhere", "/v1/studies")]
    answers.append(client.get("/", headers={"Host": "evil.example"}))
    answers.append(client.post("/v1/studies", headers={"Origin": "null"}))
    monkeypatch.setattr(Database, "read", broken)
    answers.append(client.get("/v1/studies"))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 400, 403, 500]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "microphone=()" in answer.headers["permissions-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_is_get_without_the_body(client: TestClient) -> None:
    study = client.post("/v1/studies", json=SPEC).json()["id"]
    for path in ("/", "/healthz", "/readyz", "/v1/studies", f"/v1/studies/{study}", "/optimizers", "/nowhere"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == str(len(get.content))
    assert client.head("/v1/inspect").status_code == 405
    assert client.head(f"/v1/studies/{study}/events").headers["content-type"].startswith("text/event-stream")
    assert studies_n(client.app.state.context.database) == 1  # type: ignore[attr-defined]


def test_no_address_holds_a_nul(client: TestClient) -> None:
    for path in ("/v1/studies?model=%00", "/v1/studies?find=%00", "/?status=x%00"):
        check_problem(client.get(path), 422, "invalid_parameter")
    for path in ("/studies/a%00b", "/v1/optimizers/%00"):
        check_problem(client.get(path), 404, "not_found")
