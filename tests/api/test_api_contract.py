"""The OpenAPI document is complete, true, and enough for a generated client."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from optim_core.spec.validation import parse_spec
from service.api.problem_types import PROBLEMS
from service.db import Database
from service.operations import planning, studies
from tests.api.api_support import make_client
from tests.db.support import make_recommendation
from tests.own_key import AS_OWNER, OWN_KEY

ROOT = Path(__file__).resolve().parents[2]
REFUSALS = {"ServiceError": None, "NotFound": 404, "Conflict": 409}


@pytest.fixture(scope="module")
def document(sqlite_template: Path) -> dict[str, Any]:
    database = Database(f"sqlite:///{sqlite_template}")
    found = make_client(database).get("/openapi.json").json()
    database.dispose()
    return found


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_operation_says_what_it_takes_and_answers(document: dict[str, Any]) -> None:
    ids = []
    for method, path, operation in operations_of(document):
        where = f"{method} {path}"
        ids.append(operation["operationId"])
        assert operation["description"], where
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            if status in ("204",):
                continue
            assert content, f"{where} {status}"
            for media, one in content.items():
                assert one["schema"], f"{where} {status}"
                if status >= "400" and path != "/readyz":
                    assert media == "application/problem+json", f"{where} {status}"
                    assert one["schema"] == {"$ref": "#/components/schemas/Problem"}
                    assert one["examples"]
        if "requestBody" in operation:
            assert all(one["examples"] for one in operation["requestBody"]["content"].values()), where
    assert len(set(ids)) == len(ids)
    assert "HTTPValidationError" not in json.dumps(document)
    body = document["paths"]["/v1/studies"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/StudySpec"}
    assert document["components"]["schemas"]["Recommendation"]["properties"]["headline"]


def test_examples_are_true(document: dict[str, Any]) -> None:
    def validator(schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator({**schema, "components": document["components"]})

    for _, _, operation in operations_of(document):
        contents = [answer.get("content", {}) for answer in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for one in (one for content in contents for one in content.values()):
            for example in one.get("examples", {}).values():
                validator(one["schema"]).validate(example["value"])
    post = document["paths"]["/v1/studies"]["post"]["requestBody"]["content"]["application/json"]
    for example in post["examples"].values():
        assert parse_spec(example["value"])


def raised() -> Iterator[tuple[int, str, str]]:
    """(status, code, place) of every refusal in the service."""
    for path in sorted((ROOT / "service").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name not in REFUSALS and name != "problem":
                continue
            assert isinstance(node, ast.Call)
            values = [a.value for a in node.args if isinstance(a, ast.Constant)]
            status = REFUSALS.get(name) or next((v for v in values if isinstance(v, int)), None)
            code = next((v for v in values if isinstance(v, str) and re.fullmatch(r"[a-z_]+", v)), None)
            if status is not None and code is not None:
                yield status, code, f"{path.name}:{node.lineno}"


def test_every_problem_is_in_the_document() -> None:
    found = list(raised())
    assert len(found) > 25
    for status, code, place in found:
        assert code in PROBLEMS[status], f"{code} ({status}, {place}) is not in service/api/problem_types.py"


def test_docs_need_no_other_host(document: dict[str, Any], sqlite_template: Path) -> None:
    database = Database(f"sqlite:///{sqlite_template}")
    client = make_client(database)
    page = client.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert not [address for address in addresses if "//" in address]
    for address in addresses:
        if address.startswith("/static/"):
            assert client.get(address).status_code == 200
    bundle = next(address for address in addresses if "swagger-ui-bundle" in address)
    assert "SwaggerUIBundle" in client.get(bundle).text
    database.dispose()


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A client made from the document alone, by openapi-python-client."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [
        sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none",
        "--output-path", str(folder / "made_client"),
    ]  # fmt: skip
    # It looks for the ruff beside this Python.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout, done.stdout
    sys.path.insert(0, str(folder))
    yield importlib.import_module("made_client")
    sys.path.remove(str(folder))


def call(made: ModuleType, module: str) -> Any:
    found = importlib.import_module(f"{made.__name__}.api.{module}")
    return found.asyncio_detailed


def test_a_generated_client_gets_from_a_spec_to_the_answer(generated: ModuleType, database: Database) -> None:
    models = importlib.import_module(f"{generated.__name__}.models")
    app = make_client(database).app
    client = generated.AuthenticatedClient("http://testserver", token=OWN_KEY)
    spec = models.StudySpec(model="mlp", dataset="iris", budget="5 trials")

    async def main() -> None:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=AS_OWNER) as wire:
            client.set_async_httpx_client(wire)
            made = await call(generated, "studies.create_study")(
                client=client, body=spec, wait=30.0, idempotency_key="generated-1"
            )
            assert made.status_code == 202
            study = made.parsed
            assert (study.status.value, study.model, study.error) == ("queued", "mlp", None)
            page = (await call(generated, "studies.list_studies")(client=client)).parsed
            assert [one.id for one in page.items] == [study.id]
            early = await call(generated, "studies.get_recommendation")(study.id, client=client)
            assert (early.status_code, early.parsed.code) == (409, "not_ready")
            assert early.parsed.progress.trials_done == 0
            assert planning.finish_study(database, study.id, make_recommendation(study.id))
            answer = (await call(generated, "studies.get_recommendation")(study.id, client=client)).parsed
            assert (answer.verdict, answer.recommended.optimizer) == ("better", "lion")
            assert answer.score.mean == 0.9
            assert studies.get_study(database, study.id).status == "completed"
            gone = await call(generated, "studies.delete_study")(study.id, client=client)
            assert gone.status_code == 204
            lost = await call(generated, "studies.get_study")(study.id, client=client)
            assert lost.parsed.code == "study_not_found"
            wrong = models.StudySpec(model="mpl", dataset="iris")
            refused = (await call(generated, "studies.create_study")(client=client, body=wrong)).parsed
            assert refused.errors[0].pointer.startswith("/model")

    asyncio.run(main())
