"""Opaque positions in a list: URL-safe base64 of the JSON list [list's name, sort keys …]."""

from __future__ import annotations

import base64
import json

from service.operations.errors import ServiceError

MAX_LIMIT = 500


def encode(kind: str, *keys: float | int | str | None) -> str:
    """The cursor behind an item with these sort keys."""
    text = json.dumps([kind, *keys], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, kind: str, *types: type) -> list:
    """The sort keys of a cursor. ServiceError 422 ``invalid_cursor`` when it is not one of this list's.

    ``types``: of each key, in order; float keys may also be None. Lists never give out other values, databases
    could not compare them.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, *keys = json.loads(text)
        if found != kind or len(keys) != len(types):
            raise ValueError("made for another list")
        return [_checked(key, wanted) for key, wanted in zip(keys, types, strict=True)]
    except (ValueError, TypeError, RecursionError) as error:
        raise ServiceError(422, "invalid_cursor", "the cursor is not one that this list gave out") from error


def _checked(key: object, wanted: type) -> object:
    if wanted is float and key is None:
        return None
    if wanted is float and isinstance(key, int | float) and not isinstance(key, bool) and abs(key) < 1e300:
        return float(key)
    if wanted is int and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < 2**31:
        return key
    if wanted is str and isinstance(key, str) and key.isalnum() and key.isascii():
        return key
    raise ValueError("a key of another type")


def check_limit(limit: int) -> int:
    """The page size, or ServiceError 422 when it is not within 1 .. MAX_LIMIT."""
    if not 1 <= limit <= MAX_LIMIT:
        detail = f"limit must lie between 1 and {MAX_LIMIT}"
        error = {"pointer": "/limit", "code": "number_out_of_range", "detail": detail}
        raise ServiceError(422, "number_out_of_range", detail, [error])
    return limit
