"""A client against the application in this process, and counts of what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import text

from service.app import create_app
from service.db import Database
from service.dispatch.base import Queue
from service.settings import Settings
from tests.own_key import AS_OWNER, OWN_KEY

SPEC: dict[str, Any] = {
    "model": {"kind": "catalogue", "name": "mlp"},
    "dataset": {"kind": "builtin", "name": "iris"},
    "budget": {"trials": 5},
}


class CountingDispatcher:
    """Remembers who was rung for."""

    def __init__(self, healthy: bool | None = True) -> None:
        self.rung: list[Queue] = []
        self._healthy = healthy

    def nudge(self, queue: Queue) -> None:
        self.rung.append(queue)

    def healthy(self) -> bool | None:
        return self._healthy


def make_client(database: Database, dispatcher: CountingDispatcher | None = None, **settings: Any) -> TestClient:
    """A client that is let in as whoever runs the server."""
    usual = {"data_roots": [Path("/")], "allowed_hosts": ["testserver"]}
    app = create_app(Settings(**{**usual, **settings}), database, dispatcher or CountingDispatcher(), OWN_KEY)
    return TestClient(app, raise_server_exceptions=False, headers=AS_OWNER)


def studies_n(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM study")).scalar_one())


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code, body
    assert {"type", "title", "status", "detail", "code", "instance", "errors"} <= set(body)
    assert body["status"] == status
    assert "Traceback" not in answer.text
    return body
