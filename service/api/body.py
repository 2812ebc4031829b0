"""Reads a request's JSON body strictly: size, media type, UTF-8, duplicate keys, and the fields of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from optim_core.spec.errors import escape
from service.operations.errors import ServiceError

# More than the largest float has.
MOST_DIGITS = 400


class JsonBody(BaseModel):
    """Base of what requests send: the named fields and no others, each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Body = TypeVar("Body", bound=JsonBody)


async def read_body(request: Request, limit: int, kind: type[Body]) -> Body:
    """The body as a model. Raises what ``read_json`` raises, and ServiceError 422 with each wrong field."""
    raw = await read_json(request, limit)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        errors = [_field(one) for one in error.errors(include_url=False)]
        detail = f"{errors[0]['pointer']}: {errors[0]['detail']}".removeprefix(": ")
        raise ServiceError(422, errors[0]["code"], detail, errors[:20]) from None


def _field(error: Any) -> dict[str, str]:
    codes = {"extra_forbidden": "unknown_field", "missing": "field_required"}
    pointer = "".join(f"/{escape(part)}" for part in error["loc"])
    return {"pointer": pointer, "code": codes.get(error["type"], "invalid_value"), "detail": str(error["msg"])}


async def read_json(request: Request, limit: int) -> Any:
    """The decoded body. Raises ServiceError 413, 415 or 400 ``malformed_json``/``duplicate_key``."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise ServiceError(415, "unsupported_media_type", "send application/json")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_large(limit)
    return decode(bytes(body))


def decode(body: bytes) -> Any:
    """Strict JSON in UTF-8. NaN and Infinity pass here and are refused, with their place, by the spec."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole)
        repeated = next(_repeated(value, ""), None)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else _where(error)
        raise ServiceError(400, "malformed_json", f"the body is not valid JSON: {reason}") from None
    if repeated is not None:
        detail = f"the key {repeated} occurs twice"
        raise ServiceError(
            400, "duplicate_key", detail, [{"pointer": repeated, "code": "duplicate_key", "detail": detail}]
        )
    return value


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "not UTF-8"


def _whole(digits: str) -> int:
    """A whole number. Of one beyond any use only that it is: Python reads no more than 4,300 digits, and slowly."""
    return int(digits[:MOST_DIGITS])


class _Repeating(dict[str, Any]):
    """An object in which a key occurs twice. ``key``: the first."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys, repeating = [key for key, _ in pairs], _Repeating(found)
    repeating.key = next(key for place, key in enumerate(keys) if key in keys[:place])
    return repeating


def _repeated(value: Any, pointer: str) -> Iterator[str]:
    """Pointers of keys that occur twice."""
    if isinstance(value, _Repeating):
        yield f"{pointer}/{_printable(value.key)}"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from _repeated(part, f"{pointer}/{_printable(str(key))}")


def _printable(key: str) -> str:
    return escape(key[:80].encode("ascii", "backslashreplace").decode())


def too_large(limit: int) -> ServiceError:
    """413 for a body."""
    return ServiceError(413, "body_too_large", f"the body is larger than {limit} bytes")
