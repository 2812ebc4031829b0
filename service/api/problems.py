"""Every error as ``application/problem+json`` (RFC 9457) with a stable code. Never a traceback, never SQL."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from optim_core.spec.errors import SpecError
from optim_core.spec.validation import SpecErrors
from service.db.errors import DatabaseUnavailable
from service.operations.errors import ServiceError

log = logging.getLogger("whichopt.api")

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}
RETRY_AFTER_S = 2


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """One problem document."""
    body = {
        "type": f"urn:whichopt:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request.url.path,
        "errors": errors or [],
        **extra,
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def field_errors(error: SpecError) -> list[dict[str, str]]:
    """Pointers of what is wrong with a spec or its data."""
    if isinstance(error, SpecErrors):
        return [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in error.errors]
    return [{"pointer": error.pointer, "code": error.code, "detail": str(error)}]


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ServiceError)
    def _service(request: Request, error: ServiceError) -> JSONResponse:
        extra = getattr(error, "extra", {})
        return problem(request, error.status, error.code, error.detail, error.errors, **extra)

    @app.exception_handler(SpecError)
    def _spec(request: Request, error: SpecError) -> JSONResponse:
        return problem(request, 422, error.code, str(error), field_errors(error))

    @app.exception_handler(DatabaseUnavailable)
    def _database(request: Request, error: DatabaseUnavailable) -> JSONResponse:
        log.warning("%s: %s", error.code, error)
        if error.code == "storage_full":
            return problem(request, 507, error.code, "the database has no space left")
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(request, 503, error.code, "the database cannot answer right now", headers=headers)

    @app.exception_handler(RequestValidationError)
    def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"pointer": f"/{e['loc'][-1]}", "code": "invalid_parameter", "detail": str(e["msg"])}
            for e in error.errors()
        ]
        return problem(request, 422, "invalid_parameter", f"{errors[0]['pointer'][1:]}: {errors[0]['detail']}", errors)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "http_error")
        headers = dict(error.headers) if error.headers else None
        return problem(request, error.status_code, code, str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    def _last_resort(request: Request, error: Exception) -> JSONResponse:
        log.exception("unhandled error in %s %s", request.method, request.url.path)
        return problem(request, 500, "internal", "an internal error; it has been logged")
