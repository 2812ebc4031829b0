"""Every error as ``application/problem+json`` (RFC 9457) with a stable code. Never a traceback, never SQL."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from structlog.contextvars import get_contextvars

from optim_core.spec.errors import SpecError, escape
from service.db.errors import DatabaseUnavailable
from service.operations.errors import ServiceError, field_errors
from service.operations.views import FieldError, Progress

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
RETRY_AFTER_S = 2
CLOSE = {"Connection": "close"}
PROBLEM_MEDIA = "application/problem+json"


class Problem(BaseModel):
    """RFC 9457. ``code`` is stable, ``detail`` a sentence for a person; ``errors``: what is wrong with single fields;
    ``request_id``: stands in the log of the service, too. ``progress``: of a study that is not ready.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    errors: list[FieldError]
    request_id: str | None
    progress: Progress | None = None


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> Response:
    """One problem document; a page for browsers that open the address."""
    if status == 413:  # what is still coming nobody will read
        headers = {**CLOSE, **(headers or {})}
    if status == 503:
        headers = {"Retry-After": str(RETRY_AFTER_S), **(headers or {})}
    if "text/html" in request.headers.get("accept", ""):
        return request.app.state.error_page(status, detail, headers)
    body = problem_document(status, code, detail, request.url.path, errors, get_contextvars().get("request_id"))
    return JSONResponse(body | extra, status, {"Vary": "Accept", **(headers or {})}, media_type=PROBLEM_MEDIA)


def problem_document(
    status: int,
    code: str,
    detail: str,
    instance: str,
    errors: list[dict[str, Any]] | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """What ``Problem`` describes, as JSON."""
    return {
        "type": f"urn:whichopt:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": instance,
        "errors": errors or [],
        "request_id": request_id,
    }


def _pointer(location: tuple[int | str, ...]) -> str:
    # The first part says where in the request: path, query, header.
    return "".join(f"/{escape(part)}" for part in location[1:])


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ServiceError)
    def _service(request: Request, error: ServiceError) -> Response:
        if error.status == 401 and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"/signin?next={quote(request.url.path)}", 303, {"Cache-Control": "no-store"})
        extra = getattr(error, "extra", {})
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="whichopt"'
        return problem(request, error.status, error.code, error.detail, error.errors, headers, **extra)

    @app.exception_handler(SpecError)
    def _spec(request: Request, error: SpecError) -> Response:
        return problem(request, 422, error.code, str(error), field_errors(error))

    @app.exception_handler(DatabaseUnavailable)
    def _database(request: Request, error: DatabaseUnavailable) -> Response:
        if error.code == "storage_full":
            return problem(request, 507, error.code, "the database has no space left")
        return problem(request, 503, error.code, "the database cannot answer right now")

    @app.exception_handler(RequestValidationError)
    def _parameters(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"pointer": _pointer(e["loc"]), "code": "invalid_parameter", "detail": str(e["msg"])}
            for e in error.errors()
        ]
        return problem(request, 422, "invalid_parameter", f"{errors[0]['pointer'][1:]}: {errors[0]['detail']}", errors)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        code = _HTTP_CODES.get(error.status_code, "http_error")
        headers = dict(error.headers) if error.headers else None
        if error.status_code == 204:
            return Response(status_code=204, headers=headers)
        return problem(request, error.status_code, code, str(error.detail), headers=headers)
