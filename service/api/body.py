"""Reads a request's JSON body strictly: size, media type, UTF-8, duplicate keys."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from service.operations.errors import ServiceError


async def read_json(request: Request, limit: int) -> Any:
    """The decoded body. Raises ServiceError 413, 415 or 400 ``malformed_json``/``duplicate_key``."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise ServiceError(415, "unsupported_media_type", "send application/json")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _too_large(limit)
    return decode(bytes(body))


def decode(body: bytes) -> Any:
    """Strict JSON in UTF-8. NaN and Infinity pass here and are refused, with their place, by the spec."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except ServiceError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else _where(error)
        raise ServiceError(400, "malformed_json", f"the body is not valid JSON: {reason}") from None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number is too long"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            name = key[:80].encode("ascii", "backslashreplace").decode()
            raise ServiceError(
                400,
                "duplicate_key",
                f"the key {name!r} occurs twice",
                [{"pointer": f"/{name}", "code": "duplicate_key"}],
            )
        found[key] = value
    return found


def _too_large(limit: int) -> ServiceError:
    return ServiceError(413, "body_too_large", f"the body is larger than {limit} bytes")
