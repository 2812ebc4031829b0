"""Addresses of servers, as people give them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def http_address(given: str) -> str:
    """``given`` without slashes at its end. Raises ValueError for what is no http or https URL with a host: nothing can answer
    there, however long it is waited for.
    """
    try:
        parts = urlsplit(given)
        # Both raise, for what they cannot read.
        host = (parts.hostname or "").encode("idna")
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        host = port = None
    if not host or port == 0 or parts.scheme not in ("http", "https") or re.search(r"[\s\\]", given):
        raise ValueError(f"{given!r} is no address; write http://HOST:PORT")
    return given.rstrip("/")
