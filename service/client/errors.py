"""What can go wrong on the way to a server."""

from __future__ import annotations

from typing import Any

from optim_core.spec.errors import PortableError

# Answers of a server, or of a proxy before it, that will do better later.
PASSING = frozenset({429, 502, 503, 504})


class ApiError(PortableError):
    """The server refused. ``errors``: [{"pointer", "code", "detail"}] for single fields."""

    def __init__(
        self, status: int, code: str, detail: str, errors: list[dict[str, Any]], document: dict[str, Any]
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.code, self.detail, self.errors, self.document = status, code, detail, errors, document


class Unreachable(Exception):
    """No usable answer: nothing listens there, it timed out, or something else than Whichopt answers."""


class BadKey(ValueError):
    """What was given as a key cannot be one, and is sent to nobody."""
