"""The one error tree of the service. Each error knows its HTTP status and a stable code."""

from __future__ import annotations

from typing import Any

from optim_core.spec.errors import PortableError


class ServiceError(PortableError):
    """Refused on purpose. ``errors``: [{"pointer", "code", "detail"}] for single fields."""

    def __init__(self, status: int, code: str, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors or []


class NotFound(ServiceError):
    """404: no such thing (or no longer)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(404, code, detail)


class Conflict(ServiceError):
    """409: it exists, but not in a state in which this is possible."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(409, code, detail)


def invalid_parameter(name: str, detail: str) -> ServiceError:
    """422 for a query parameter."""
    error = {"pointer": f"/{name}", "code": "invalid_parameter", "detail": detail}
    return ServiceError(422, "invalid_parameter", detail, [error])


def study_not_found(study_id: str) -> NotFound:
    """404 for a study."""
    return NotFound("study_not_found", f"there is no study {study_id!r}")
