"""The one error tree of the service. Each error knows its HTTP status and a stable code."""

from __future__ import annotations

from typing import Any

from optim_core.spec.errors import PortableError, SpecError
from optim_core.spec.validation import SpecErrors


class ServiceError(PortableError):
    """Refused on purpose. ``errors``: [{"pointer", "code", "detail"}] for single fields. ``retry_after_s``: when the same may
    be let through.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors or []
        self.retry_after_s = retry_after_s


class NotFound(ServiceError):
    """404: no such thing (or no longer)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(404, code, detail)


class Conflict(ServiceError):
    """409: it exists, but not in a state in which this is possible."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(409, code, detail)


def field_errors(error: SpecError) -> list[dict[str, str]]:
    """Pointers of what is wrong with a spec or its data."""
    if isinstance(error, SpecErrors):
        return [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in error.errors]
    return [{"pointer": error.pointer, "code": error.code, "detail": str(error)}]


def invalid_parameter(name: str, detail: str) -> ServiceError:
    """422 for a query parameter."""
    error = {"pointer": f"/{name}", "code": "invalid_parameter", "detail": detail}
    return ServiceError(422, "invalid_parameter", detail, [error])


def study_not_found(study_id: str) -> NotFound:
    """404 for a study."""
    return NotFound("study_not_found", f"there is no study {study_id!r}")
