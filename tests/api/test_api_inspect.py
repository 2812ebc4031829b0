"""``POST /v1/inspect`` says what a study would see; what does not fit is refused, there and before a study is stored."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api_support import SPEC, check_problem, make_client, studies_n

from optim_core.spec.errors import DataError
from service.api import readers
from service.client import ApiError, Client
from service.db import Database
from tests.own_key import OWN_KEY

CNN = {"model": "cnn", "dataset": "iris", "budget": "5m"}


@pytest.fixture
def api(tmp_path: Path) -> Any:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    yield make_client(database), database
    database.dispose()


def test_a_table_is_inspected(api: Any) -> None:
    client, database = api
    answer = client.post("/v1/inspect", json={**SPEC, "budget": "5m"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["task"], found["metric"], found["rows"]) == (
        "classification", "accuracy", {"train": 90, "validation": 30, "test": 30},
    )  # fmt: skip
    assert [column["role"] for column in found["columns"]] == ["number"] * 4
    assert found["model"]["parameters"] == 4 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3
    assert found["forecast"] is None
    assert studies_n(database) == 0


def test_a_text_is_inspected(api: Any) -> None:
    found = api[0].post("/v1/inspect", json={"model": "transformer", "dataset": "python_docs"}).json()
    assert (found["task"], found["metric"], found["columns"], found["shape"]) == ("own", "perplexity", [], [64])


@pytest.mark.parametrize("path", ["/v1/inspect", "/v1/studies?wait=30"])
def test_a_model_that_does_not_fit_is_refused(api: Any, path: str) -> None:
    client, database = api
    problem = check_problem(client.post(path, json=CNN), 422, "shape_mismatch")
    detail = "the model cnn needs images (such as digits); this data set has 4 plain features"
    assert problem["errors"] == [{"pointer": "/model", "code": "shape_mismatch", "detail": detail}]
    assert studies_n(database) == 0


@pytest.mark.parametrize("path", ["/v1/inspect", "/v1/studies"])
def test_the_typo_leads(api: Any, path: str) -> None:
    problem = check_problem(api[0].post(path, json={"model": "mlp", "datset": "iris"}), 422, "unknown_field")
    assert [error["pointer"] for error in problem["errors"]] == ["/datset", "/dataset"]


def test_short_forms_are_stored_long(api: Any) -> None:
    answer = api[0].post("/v1/studies", json={"model": "mlp", "dataset": "iris", "budget": "200 trials"})
    assert answer.status_code == 202, answer.text
    spec = answer.json()["spec"]
    assert (spec["model"]["kind"], spec["dataset"]["kind"], spec["budget"]["trials"]) == ("catalogue", "builtin", 200)


def test_code_of_ones_own_is_not_run_here(api: Any, tmp_path: Path) -> None:
    client, database = api
    raw = {"model": "json:loads", "dataset": "json:dumps", "budget": "5s"}
    check_problem(client.post("/v1/inspect", json=raw), 422, "entrypoint_not_allowed")
    allowed = make_client(database, python_entrypoints=["json"])
    problem = check_problem(allowed.post("/v1/inspect", json=raw), 422, "own_code")
    assert problem["errors"][0]["pointer"] == "/model"


def test_those_that_wait_for_a_reader_are_few(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = api[0]
    monkeypatch.setattr(readers, "MOST_WAITING_OF_ONE", 0)
    gate, inside = threading.Event(), threading.Semaphore(0)

    def slow(spec: Any, roots: Any) -> None:
        inside.release()
        gate.wait()
        raise DataError("looked at", pointer="/dataset")

    monkeypatch.setattr("service.operations.inspection.inspect", slow)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/inspect", json=SPEC)))
        for _ in range(readers.MOST_READING_OF_ONE)
    ]
    for thread in threads:
        thread.start()
        inside.acquire()
    # They read; nobody else may, and all else goes on.
    check_problem(client.post("/v1/inspect", json=SPEC), 503, "overloaded")
    assert client.get("/v1/studies").status_code == 200
    gate.set()
    for thread in threads:
        thread.join()
    assert [answer.json()["detail"] for answer in answers] == ["looked at"] * len(threads)
    check_problem(client.post("/v1/inspect", json=SPEC), 422, "malformed_table")


def test_the_sdk_inspects(api: Any) -> None:
    client = Client("http://testserver", OWN_KEY, transport=api[0]._transport)
    assert client.inspect(SPEC)["shape"] == [4]
    with pytest.raises(ApiError) as caught:
        client.inspect(CNN)
    assert caught.value.errors[0]["pointer"] == "/model"
