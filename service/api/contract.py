"""The OpenAPI document, complete: the bodies that are taken, every status with its problems, examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.problem_types import OF_THE_SPEC, PROBLEMS
from service.api.problems import PROBLEM_MEDIA, Problem, problem_document
from service.api.takes import REFERENCE, SCHEMAS

DESCRIPTION = """Which optimizer, at which settings, and how sure is that?

Start a study (`POST /v1/studies`), wait until its `status` is `completed` (poll it, or listen to its events), and read its
`recommendation`. Everything that is refused is told as `application/problem+json` (RFC 9457) with a stable `code`, a JSON
pointer for each field that is wrong, and the `request_id` that the log of the service knows it by. A call with an
`Idempotency-Key`, and every GET, can be repeated without harm.
"""
_PROBLEM = {"$ref": REFERENCE.format(model="Problem")}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of all routes, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags
        )
        schemas = found["components"]["schemas"]
        problem = Problem.model_json_schema(ref_template=REFERENCE)
        schemas |= {**problem.pop("$defs", {}), "Problem": problem, **SCHEMAS}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path, method, operation in _operations(found):
            _drop_item_schemas(operation)
            for status in _statuses(path, method, operation):
                operation["responses"][str(status)] = _answer(status, path) | _kept(operation, status)
            operation["responses"] = dict(sorted(operation["responses"].items()))
        app.openapi_schema = found
    return app.openapi_schema


def _operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _drop_item_schemas(operation: dict[str, Any]) -> None:
    """OpenAPI 3.1 knows no ``itemSchema``, which FastAPI writes: beside it ``schema`` would stand for a whole stream."""
    for answer in operation["responses"].values():
        for media in answer.get("content", {}).values():
            media.pop("itemSchema", None)


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    """Those that an operation may answer besides what it says itself."""
    statuses = [400, 405, 500]
    if path == "/healthz":
        return statuses
    statuses += [401, 403, 429]
    if path != "/readyz":
        statuses.append(503)
    if "{" in path:
        statuses.append(404)
    if operation.get("parameters") or "requestBody" in operation:
        statuses.append(422)
    if "requestBody" in operation:
        statuses += [408, 413, 415]
    if method != "get":
        statuses.append(507)
    if _may_conflict(path, method):
        statuses.append(409)
    return statuses


def _may_conflict(path: str, method: str) -> bool:
    if "{study_id}" in path:
        return method != "get" or path.endswith(("/recommendation", "/rows", "/clients"))
    return (method, path) in {("delete", "/v1/artifacts/{artifact_id}"), ("post", "/v1/webhooks")}


def _answer(status: int, path: str) -> dict[str, Any]:
    codes = PROBLEMS[status]
    said = "; ".join(f"`{code}`: {meaning}" for code, meaning in codes.items())
    examples = {
        code: {"summary": meaning, "value": problem_document(status, code, meaning, path)}
        for code, meaning in codes.items()
    }
    return {
        "description": f"{said}; {OF_THE_SPEC}" if status == 422 else said,
        "content": {PROBLEM_MEDIA: {"schema": _PROBLEM, "examples": examples}},
    }


def _kept(operation: dict[str, Any], status: int) -> dict[str, Any]:
    """What the route says of a status itself, headers above all."""
    own = operation["responses"].get(str(status), {})
    return {"headers": own["headers"]} if "headers" in own else {}
